//! Makes the gRPC code, and the description that reflection answers with, from the definitions. In Rust: no protoc.

use prost::Message;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    // cargo reads this from standard output.
    std::io::Write::write_all(&mut std::io::stdout(), b"cargo::rerun-if-changed=proto\n")?;
    let described = protox::compile(["tracker/lock/v1alpha1/lock.proto"], ["proto"])?;
    #[expect(clippy::disallowed_methods, reason = "a build script is told where to write by the environment")]
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    #[expect(clippy::disallowed_methods, reason = "nobody reads it before this ends")]
    std::fs::write(out.join("descriptors.bin"), described.encode_to_vec())?;
    // The client is for the tests.
    tonic_prost_build::configure().compile_fds(described)?;
    let etcd = protox::compile(["etcd/rpc.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(etcd)?;
    Ok(())
}
