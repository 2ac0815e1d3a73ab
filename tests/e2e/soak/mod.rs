//! Half an hour of everything: real programs over bad wires, in every mode, while daemons are killed, firewalls reloaded
//! and addresses changed. `make soak` runs it; `FTPALG_SOAK_SECONDS` says for how long. What it did stands in
//! `target/tmp/soak.txt` and `target/tmp/soak/`.

mod report;
mod scene;

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use netlab::Disorder;

use crate::harness::{Plan, Setup, Topology};
use report::Report;
use scene::{Scene, Trouble};

/// On each link, each way.
const DISORDER: Disorder = Disorder { loss: 2, duplicates: 2, late: 10 };

/// How many sessions each scene has at a time.
const CLIENTS: u64 = 3;

/// How often the daemons' memory is looked at.
const LOOK: Duration = Duration::from_secs(30);

/// How long an ended session is kept, and a connection that used a pinhole is known (`used`), and then some.
const UNTIL_NOTHING_IS_LEFT: Duration = Duration::from_secs(165);

fn duration() -> Duration {
    let seconds = env::var("FTPALG_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1800))
}

/// What begins while there is no daemon waits for it: what passes it by can't be helped later.
fn setup(topology: Topology, plan: Plan) -> Setup {
    Setup::new(topology).plan(plan).ports(&scene::PORTS).disorder(DISORDER).settings("when-down = \"drop\"")
}

#[test]
#[ignore = "half an hour: make soak"]
fn nothing_breaks_and_nothing_is_left() -> Result<()> {
    use Trouble::{Kill, Readdress, Reload};
    let report = Report::new()?;
    let scenes = [
        Scene::new(
            "masquerade",
            setup(Topology::Masquerade, Plan::ShortInside),
            &[Kill, Kill, Reload, Readdress],
        )?,
        Scene::new("dnat", setup(Topology::Dnat, Plan::LongInside), &[Kill, Kill, Reload])?,
        Scene::new("two routers", setup(Topology::BothNat, Plan::LongInside), &[Kill])?,
        // These daemons live from the beginning to the end: their memory would show growth.
        Scene::new("ipv6", setup(Topology::Firewall6, Plan::ShortInside), &[Reload])?,
        Scene::new("quiet", setup(Topology::Masquerade, Plan::LongInside), &[])?,
    ];
    let end = Instant::now() + duration();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let report = &report;
        for (number, scene) in (1..).zip(&scenes) {
            for client in 0..CLIENTS {
                let seed = report.seed() + number * 100 + client;
                threads.push(scope.spawn(move || scene.transfer_until(end, seed, report)));
            }
            let seed = report.seed() + number * 100 + 99;
            threads.push(scope.spawn(move || scene.disturb_until(end, seed, report)));
        }
        threads.push(scope.spawn(|| watch_until(end, &scenes, report)));
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    report.note("no more sessions");
    thread::sleep(UNTIL_NOTHING_IS_LEFT);
    let [masquerade, dnat, two_routers, ipv6, quiet] = scenes;
    for scene in [masquerade, dnat, two_routers, ipv6, quiet] {
        scene.finish(&report)?;
    }
    report.conclude()
}

/// Looks at every daemon again and again.
fn watch_until(end: Instant, scenes: &[Scene], report: &Report) -> Result<()> {
    while Instant::now() < end {
        thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        for scene in scenes {
            scene.look(report)?;
        }
    }
    Ok(())
}
