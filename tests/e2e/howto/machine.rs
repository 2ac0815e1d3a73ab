//! A machine whose files are its own: this machine's, with ftpalg installed beside them, under a layer that takes what is
//! written. So a page's commands run as they stand, with the real programs and the real paths, as root.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{Host, Output, Process};

/// Holds the mount namespace. `$1` is an empty directory, `$2` what [`install`] has filled.
const KEEPER: &str = r#"
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o "lowerdir=/,upperdir=upper,workdir=work" overlay root
mount --rbind /dev root/dev
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mount -t tmpfs -o mode=755 tmpfs root/run
mount -t tmpfs -o mode=1777 tmpfs root/tmp
mount --bind "$2/usr/local" root/usr/local
cp -a "$2/etc/." root/etc
mkdir root/run/lock
pivot_root root root/mnt
umount -l /mnt
echo ready
exec sleep infinity
"#;

const LIMIT: Duration = Duration::from_secs(60);

/// Installs ftpalg under a directory, as `make install` does, with stand-ins for the programs of systemd that can't run
/// here.
pub fn install(under: &Path) -> Result<()> {
    let source = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("make")
        .args(["--no-print-directory", "--silent", "-C", source, "install", "PACKAGES=no"])
        .arg(concat!("BINARY=", env!("CARGO_BIN_EXE_ftpalg")))
        .arg(format!("DESTDIR={}", under.display()))
        .stdin(Stdio::null())
        .output()
        .context("make can't be run")?;
    ensure!(output.status.success(), "make install: {}", String::from_utf8_lossy(&output.stderr));
    let programs = under.join("usr/local/bin");
    fs::create_dir_all(&programs)?;
    for name in ["systemctl", "journalctl"] {
        let script = Path::new(source).join("tests/e2e/peers").join(format!("{name}.py"));
        fs::copy(script, programs.join(name))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(programs.join(name), mode)?;
    }
    Ok(())
}

/// A host with files of its own.
#[derive(Debug)]
pub struct Machine {
    pub host: Host,
    keeper: Process,
}

impl Machine {
    /// Gives a host its files; `installed` is what [`install`] has filled, `dir` the lab's directory.
    pub fn new(host: Host, installed: &Path, dir: &Path) -> Result<Machine> {
        let own = dir.join(format!("{}.files", host.name()));
        fs::create_dir(&own)?;
        let [own, installed] = [own.as_path(), installed].map(|path| path.display().to_string());
        let line = ["--mount", "--propagation", "private", "sh", "-euc", KEEPER, "sh", &own, &installed];
        let log = dir.join(format!("{}.keeper", host.name()));
        let mut keeper = host.spawn(&log, "unshare", line)?;
        keeper.wait_for_log("ready", Duration::from_secs(20))?;
        let machine = Machine { host, keeper };
        // How far it is shares a line with what else curl says (8.18).
        machine.write("/root/.curlrc", "no-progress-meter\n")?;
        Ok(machine)
    }

    /// Runs a line of shell as root, to its end.
    pub fn shell(&self, line: &str) -> Result<Output> {
        let process = format!("/proc/{}", self.keeper.id());
        let [mount, root, home] = [
            format!("--mount={process}/ns/mnt"),
            format!("--root={process}/root"),
            format!("--wd={process}/root/root"),
        ];
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let inside = ["env", "-i", path, "HOME=/root", "USER=root", "LC_ALL=C.UTF-8", "bash", "-c", line];
        self.host.run_within(
            LIMIT,
            "nsenter",
            [&mount, &root, &home].into_iter().map(String::as_str).chain(inside),
        )
    }

    /// Writes a file, and the directories above it.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let root = Path::new("/proc").join(self.keeper.id().to_string()).join("root");
        let file = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("no directory")?)?;
        fs::write(&file, text).with_context(|| format!("{path} on {}", self.host.name()))
    }
}
