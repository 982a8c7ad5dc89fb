//! Generates the gRPC code, and the descriptors for reflection, from the files in `proto`. protox parses them, so
//! protoc is not needed.

use prost::Message;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    // cargo reads this from standard output.
    std::io::Write::write_all(&mut std::io::stdout(), b"cargo::rerun-if-changed=proto\n")?;
    let descriptors = protox::compile(["tracker/lock/v1alpha1/lock.proto", "grpc/health/v1/health.proto"], ["proto"])?;
    #[expect(clippy::disallowed_methods, reason = "cargo names the output directory in a variable")]
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    #[expect(clippy::disallowed_methods, reason = "no process reads the file before this program ends")]
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Includes the client, which the tests use.
    tonic_prost_build::configure().compile_fds(descriptors)?;
    let etcd = protox::compile(["etcd/rpc.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(etcd)?;
    Ok(())
}
