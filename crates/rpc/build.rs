//! Generates the messages, clients and servers of `proto/tidemark/v1`.

fn main() -> std::io::Result<()> {
    let root = "../../proto";
    let files =
        ["common", "broker", "storage", "coordinator", "group"].map(|name| format!("{root}/tidemark/v1/{name}.proto"));
    tonic_prost_build::configure()
        // Payloads are decoded as slices of the message that they came in, not copied.
        .bytes(".")
        // The same configs are the same bytes.
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .compile_protos(&files, &[root.to_owned()])
}
