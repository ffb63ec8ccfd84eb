//! The engines of `engines/examples/`, answering the suite as a program of its own would.

use engines::{Engine, locked_version};

use crate::suite;

#[allow(dead_code, reason = "its main is for readers")]
#[path = "../examples/wasmi.rs"]
mod wasmi;
#[allow(dead_code, reason = "its main is for readers")]
#[path = "../examples/wasmi_reserved.rs"]
mod wasmi_reserved;
#[allow(dead_code, reason = "its main is for readers")]
#[path = "../examples/wasmtime.rs"]
mod wasmtime;
#[allow(dead_code, reason = "its main is for readers")]
#[path = "../examples/wasmtime_pool.rs"]
mod wasmtime_pool;
#[allow(dead_code, reason = "its main is for readers")]
#[path = "../examples/wasmtime_reserved.rs"]
mod wasmtime_reserved;

#[cfg(feature = "wasmer")]
#[allow(dead_code, reason = "its main is for readers")]
#[path = "../examples/wasmer.rs"]
mod wasmer;

/// What `engine` answers to `list`, `version` or the name of a case. `None`: no such engine or case.
pub fn answer(engine: &str, asked: &str) -> Option<String> {
    match engine {
        "wasmtime" => of::<wasmtime::Wasmtime>("Wasmtime", asked),
        "wasmtime-moving" => of::<wasmtime::Moving>("Wasmtime", asked),
        "wasmtime-reserved" => of::<wasmtime_reserved::Wasmtime>("Wasmtime", asked),
        "wasmtime-pool" => of::<wasmtime_pool::Pool>("Wasmtime", asked),
        "wasmtime-keep-resident" => of::<wasmtime_pool::KeepResident>("Wasmtime", asked),
        "wasmtime-pagemap-scan" => of::<wasmtime_pool::PagemapScan>("Wasmtime", asked),
        "wasmi" => of::<wasmi::Wasmi>("wasmi", asked),
        "wasmi-reserved" => of::<wasmi_reserved::Wasmi>("wasmi", asked),
        #[cfg(feature = "wasmer")]
        "wasmer" => of::<wasmer::Wasmer>("Wasmer", asked),
        _ => None,
    }
}

fn of<E: Engine>(name: &str, asked: &str) -> Option<String> {
    match asked {
        "version" => Some(format!("{name} {}", locked_version(&name.to_lowercase()))),
        "list" => Some(suite::cases::<E>().map(|(name, _)| name).join("\n")),
        case => suite::run::<E>(case),
    }
}
