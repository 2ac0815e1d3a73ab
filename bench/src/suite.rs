//! All figures, one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::contender::Contender;
use crate::figure::{Row, Task, measure, stands};
use crate::peer::client::{Mode, Work};
use crate::plot::{Line, draw};
use crate::report::{Report, whole};
use crate::stand::{Crowd, Server, Stand};

/// Where things are, and how thoroughly it is measured.
pub struct Suite {
    pub ftpalg: PathBuf,
    pub page: PathBuf,
    pub rounds: usize,
    pub time: Duration,
    /// The largest crowd of idle sessions.
    pub crowd: usize,
}

/// Clients at a time.
const CLIENTS: [usize; 3] = [1, 16, 64];
const FILE: usize = 1024;
/// A client may have 1,024 (`MAX_PINHOLES_PER_CLIENT` of src/engine/policy.rs), and there are sixteen.
const OPEN_PINHOLES: usize = 16_000;

impl Suite {
    /// Measures everything and writes the page and the plots; `emulated` is what [`emulated`] has measured elsewhere.
    pub fn run(&self, emulated: &str) -> Result<()> {
        let mut report = Report::default();
        self.sessions(&mut report)?;
        self.commands(&mut report)?;
        self.pinholes(&mut report)?;
        self.bystanders(&mut report)?;
        self.vsftpd(&mut report)?;
        self.workers(&mut report)?;
        self.crowds(&mut report)?;
        self.open_pinholes(&mut report)?;
        report.line(emulated);
        eprintln!();
        report.write(&self.page)
    }

    fn task(&self, work: Work, mode: Mode, clients: usize) -> Task {
        Task { work, mode, clients, file: FILE, time: self.time, rounds: self.rounds }
    }

    fn plot(
        &self,
        report: &mut Report,
        name: &str,
        title: &str,
        axes: [&str; 2],
        lines: &[Line],
    ) -> Result<()> {
        let directory = self.page.with_extension("");
        fs::create_dir_all(&directory)?;
        draw(&directory.join(name), title, axes, lines)?;
        report.plot(title, name);
        Ok(())
    }

    fn sessions(&self, report: &mut Report) -> Result<()> {
        report.section(
            "Whole sessions",
            "Login, one file of 1 KiB, QUIT, with the small server: what stands between is most of what a session costs.",
        );
        let contenders = [Contender::Kernel, Contender::AcceptAll, Contender::Ftpalg];
        let stands = stands(&contenders, Server::Own, &self.ftpalg)?;
        let mut found = Vec::new();
        report.head("mode, clients");
        for mode in [Mode::Pasv, Mode::Port] {
            let name = format!("{mode:?}").to_uppercase();
            for clients in CLIENTS {
                let task = self.task(Work::Session, mode, clients);
                let rows = figure(report, &format!("{name}, {clients}"), &stands, task)?;
                found.push((name.clone(), clients, rows));
            }
        }
        for mode in ["PASV", "PORT"] {
            let of_mode: Vec<_> = found.iter().filter(|(name, ..)| name == mode).collect();
            let lines: Vec<_> = (0..contenders.len())
                .map(|place| Line {
                    name: contenders[place].to_string(),
                    points: of_mode
                        .iter()
                        .map(|(_, clients, rows)| (*clients as f64, rows[place].rate))
                        .collect(),
                })
                .collect();
            let file = format!("sessions-{}.svg", mode.to_lowercase());
            self.plot(report, &file, &format!("Sessions a second, {mode}"), ["clients", "a second"], &lines)?;
        }
        Ok(())
    }

    fn commands(&self, report: &mut Report) -> Result<()> {
        report.section(
            "Commands",
            "NOOP and its reply, two queued packets, in sessions that live on. Nothing is rewritten.",
        );
        let contenders = [Contender::Bare, Contender::Kernel, Contender::AcceptAll, Contender::Ftpalg];
        let stands = stands(&contenders, Server::Own, &self.ftpalg)?;
        report.head("clients");
        for clients in CLIENTS {
            let task = self.task(Work::Command, Mode::Pasv, clients);
            figure(report, &clients.to_string(), &stands, task)?;
        }
        Ok(())
    }

    fn pinholes(&self, report: &mut Report) -> Result<()> {
        report.section(
            "Pinholes and transfers",
            "In sessions that live on: PASV and its reply alone, where each closes the pinhole of the one before and opens \
             another; then a file of 1 KiB each time; then one of 256 MiB, of which no packet passes the daemon.",
        );
        let stands = stands(&[Contender::Kernel, Contender::Ftpalg], Server::Own, &self.ftpalg)?;
        report.head("what, clients");
        for (name, work) in [("pinholes", Work::Pinhole), ("files", Work::Transfer)] {
            for clients in [1, 16] {
                let task = self.task(work, Mode::Pasv, clients);
                figure(report, &format!("{name}, {clients}"), &stands, task)?;
            }
        }
        let large = Task { file: 256 << 20, time: self.time * 2, ..self.task(Work::Transfer, Mode::Pasv, 1) };
        figure(report, "256 MiB, 1", &stands, large)?;
        Ok(())
    }

    fn bystanders(&self, report: &mut Report) -> Result<()> {
        report.section(
            "Traffic that is none of ftpalg's",
            "Every packet that the router forwards passes ftpalg's chains. Sessions on a port that ftpalg does not watch, \
             helped by the kernel, without and with ftpalg beside it. With whole sessions the packets are many and small.",
        );
        let stands = stands(&[Contender::Kernel, Contender::Beside], Server::Own, &self.ftpalg)?;
        report.head("what, clients");
        figure(report, "sessions, 16", &stands, self.task(Work::Session, Mode::Pasv, 16))?;
        Ok(())
    }

    fn vsftpd(&self, report: &mut Report) -> Result<()> {
        report.section("A real server", "The same sessions with vsftpd, which starts processes for each.");
        let contenders = [Contender::Kernel, Contender::AcceptAll, Contender::Ftpalg];
        let stands = stands(&contenders, Server::Vsftpd, &self.ftpalg)?;
        report.head("mode, clients");
        for clients in [1, 16] {
            let task = Task { time: self.time * 2, ..self.task(Work::Session, Mode::Pasv, clients) };
            figure(report, &format!("PASV, {clients}"), &stands, task)?;
        }
        Ok(())
    }

    /// Two workers need more processors than some machines have, so what tells is what a packet costs with them.
    fn workers(&self, report: &mut Report) -> Result<()> {
        report.section(
            "Two workers",
            "Where two cores are free, twice as many workers do twice as much if a packet costs no more processor time with \
             them. On two cores, which client, router and server share, no more sessions are to be expected.",
        );
        let stands = stands(&[Contender::Ftpalg, Contender::TwoWorkers], Server::Own, &self.ftpalg)?;
        report.head("mode, clients");
        for clients in [16, 64] {
            let task = self.task(Work::Session, Mode::Pasv, clients);
            figure(report, &format!("PASV, {clients}"), &stands, task)?;
        }
        Ok(())
    }

    /// Speed, memory and restart beside a crowd.
    fn crowds(&self, report: &mut Report) -> Result<()> {
        report.section(
            "Beside a crowd",
            "Sessions that are logged in and silent, as many with each, and what 16 busy clients get done beside them: many \
             connections cost the host's own TCP and conntrack as well, so the ratio tells what ftpalg has to do with it. The \
             daemon's memory; how long it takes from its start until it is ready, with all of them in its state.",
        );
        report.line(
            "| idle sessions | kernel's helper, sessions a second | ftpalg | ratio | memory, MiB | bytes a session | \
             ready after, ms |",
        );
        report.line("| --- | --- | --- | --- | --- | --- | --- |");
        let mut lines = [Contender::Kernel, Contender::Ftpalg]
            .map(|contender| Line { name: contender.to_string(), points: Vec::new() });
        for idle in [100, 1_000, 10_000, self.crowd] {
            let stand = |contender| Stand::new(contender, Server::Own, &self.ftpalg);
            let mut stands = [stand(Contender::Kernel)?, stand(Contender::Ftpalg)?];
            let [kernel, ftpalg] = &mut stands;
            let before = ftpalg.memory()?;
            let _crowds = [kernel.crowd(idle, Crowd::LoggedIn)?, ftpalg.crowd(idle, Crowd::LoggedIn)?];
            let memory = ftpalg.memory()?;
            let ready = ftpalg.restart(&self.ftpalg)?;
            let rows = measure(&stands, self.task(Work::Session, Mode::Pasv, 16))?;
            let [kernel, ftpalg] = rows.as_slice() else { bail!("two contenders were to be measured") };
            let each = (memory.saturating_sub(before) * 1024) as f64 / idle as f64;
            report.line(&format!(
                "| {} | {} | {} | {:.2} | {:.1} | {} | {:.0} |",
                whole(idle as f64),
                whole(kernel.rate),
                whole(ftpalg.rate),
                ftpalg.ratio,
                memory as f64 / 1024.0,
                if idle < 1_000 { String::from("–") } else { whole(each) },
                ready.as_secs_f64() * 1e3
            ));
            for (line, row) in lines.iter_mut().zip(&rows) {
                line.points.push((idle as f64, row.rate));
            }
            step();
        }
        self.plot(
            report,
            "crowd.svg",
            "Sessions a second beside idle ones",
            ["idle sessions", "a second"],
            &lines,
        )
    }

    /// Speed beside pinholes that are open and wait.
    fn open_pinholes(&self, report: &mut Report) -> Result<()> {
        report.section(
            "Beside open pinholes",
            "Sessions that have asked for a data connection and make none, so that each has a pinhole that stays open; and how \
             often 16 busy clients get another pinhole beside them (PASV and its reply).",
        );
        report.line("| open pinholes | pinholes a second | p50 µs | p99 µs |");
        report.line("| --- | --- | --- | --- |");
        let mut points = Vec::new();
        for open in [100, 1_000, 10_000, OPEN_PINHOLES] {
            let stand = Stand::new(Contender::Ftpalg, Server::Own, &self.ftpalg)?;
            let _crowd = stand.crowd(open, Crowd::WithPinholes)?;
            ensure!(stand.open_pinholes()? >= open, "fewer than {open} pinholes are open");
            for row in measure(std::slice::from_ref(&stand), self.task(Work::Pinhole, Mode::Pasv, 16))? {
                let open = open as f64;
                let cells = [open, row.rate, row.p50, row.p99].map(whole);
                report.line(&format!("| {} |", cells.join(" | ")));
                points.push((open, row.rate));
            }
            step();
        }
        let lines = [Line { name: Contender::Ftpalg.to_string(), points }];
        let axes = ["open pinholes", "a second"];
        self.plot(report, "pinholes.svg", "Pinholes a second beside open ones", axes, &lines)
    }
}

/// Measures a figure and writes its rows.
fn figure(report: &mut Report, what: &str, stands: &[Stand], task: Task) -> Result<Vec<Row>> {
    let rows = measure(stands, task)?;
    report.rows(what, &rows);
    step();
    Ok(rows)
}

/// Shows whoever watches that it goes on.
fn step() {
    eprint!(".");
}

/// ftpalg and conntrackd's helper, where that can be: in a virtual machine, which is slow, so with longer rounds.
pub fn emulated(ftpalg: &Path) -> Result<String> {
    let mut report = Report::default();
    report.section(
        "Beside conntrackd's helper",
        "Under Debian's kernel in an emulated machine, some ten times slower: the ratios count alone. PASV alone: behind \
         masquerade, no data connection of PORT's gets through with conntrackd's helper.",
    );
    let stands = stands(&[Contender::Conntrackd, Contender::Ftpalg], Server::Own, ftpalg)?;
    report.head("mode, clients");
    for clients in [1, 16] {
        let (work, mode, time) = (Work::Session, Mode::Pasv, Duration::from_secs(3));
        let rows = measure(&stands, Task { work, mode, clients, file: FILE, time, rounds: 5 })?;
        report.rows(&format!("PASV, {clients}"), &rows);
    }
    Ok(report.text().to_owned())
}

/// The page that the figures stand in, unless another is named.
pub fn default_page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md")
}
