//! Where the figures come from.

use std::fmt;
use std::fs;
use std::path::Path;

use roadstead_parts::{Invocation, part};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_bytes: u64,
    kernel: String,
    file_system: String,
    /// The average number of processes that wanted a processor, over the last minute, as the kernel says it.
    load: String,
    versions: Vec<String>,
}

pub(crate) fn describe(roadstead: &Path, work: &Path) -> anyhow::Result<Machine> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kibibytes: u64 = field(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let file_system =
        Invocation::new(part::installed("findmnt")).args(["-n", "-o", "FSTYPE,OPTIONS", "-T"]).arg(work).run()?.stdout;
    let version = |program: &Path, argument: &str| {
        // nginx says it on the other output.
        let output = Invocation::new(program).arg(argument).run();
        output
            .map(|output| [output.stdout, output.stderr].concat().lines().next().unwrap_or_default().trim().to_owned())
    };
    let crane = version(&part::built("bin/crane"), "version")?;
    let distribution = version(&part::built("bin/registry"), "--version")?;
    let versions = vec![
        version(roadstead, "--version")?,
        format!("crane {crane}"),
        version(&part::installed("skopeo"), "--version")?,
        version(&part::installed("nginx"), "-v")?.replace(" version: nginx/", " "),
        // The line begins with the program's path.
        format!("distribution {}", distribution.rsplit(' ').next().unwrap_or_default()),
    ];
    Ok(Machine {
        processor: field(&processors, "model name").to_owned(),
        cores: std::thread::available_parallelism()?.get(),
        memory_bytes: kibibytes << 10,
        kernel: kernel.trim().to_owned(),
        file_system: file_system.split_whitespace().collect::<Vec<_>>().join(" "),
        load: load.split_whitespace().next().unwrap_or_default().to_owned(),
        versions,
    })
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value.trim())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gibibytes = self.memory_bytes >> 30;
        writeln!(
            f,
            "{}, {} cores, {gibibytes} GiB, Linux {}, {}.",
            self.processor, self.cores, self.kernel, self.file_system
        )?;
        writeln!(f, "{}. Load at the end: {}.", self.versions.join("; "), self.load)
    }
}
