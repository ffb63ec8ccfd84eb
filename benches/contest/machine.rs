//! The machine that the numbers come from, and how times are written.

use std::{env, fs, process::Command};

/// "1.70 us"
pub fn in_units(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{:.2} us", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// How many bytes of memory are to be had without harm to others; 0 where nobody knows.
pub fn available() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok()
    });
    kib.unwrap_or(0) << 10
}

/// What the numbers were measured on, as a list in Markdown.
pub fn lines() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|_| "unknown".into());
    let line = |path: &str| read(path).trim().to_owned();
    let ask = |command: &str, argument: &str| {
        let output = Command::new(command).arg(argument).output().ok();
        let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
        text.map_or("unknown".into(), |text| text.trim().to_owned())
    };
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let mut list = vec![format!("- date: {}", ask("date", "+%F"))];
    list.push(format!("- kernel: {}, {}", line("/proc/sys/kernel/osrelease"), env::consts::ARCH));
    list.push(format!("- CPU: {}, {cpus} in use", model.map_or("unknown", |(_, name)| name)));
    list.push(format!("- page size: {} bytes", pagetie::page::size()));
    let huge = |file| line(&format!("/sys/kernel/mm/transparent_hugepage/{file}"));
    list.push(format!(
        "- huge pages: enabled {}; shmem {}",
        huge("enabled"),
        huge("shmem_enabled")
    ));
    list.push(format!("- rustc: {}", ask("rustc", "--version")));
    list.push(format!("- load: {}", line("/proc/loadavg")));
    list.join("\n") + "\n"
}
