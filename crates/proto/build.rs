//! Generates the services from `proto/`, without protoc.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    let services = ["bridge", "budget", "orchestrator", "retriever", "router"];
    let files = services.map(|name| format!("{root}/baton/{name}/v1/{name}.proto"));
    println!("cargo:rerun-if-changed={root}");
    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let build = tonic_prost_build::configure().build_transport(false).bytes(".");
    build.codec_path("crate::Codec").compile_fds(descriptors)?;
    Ok(())
}
