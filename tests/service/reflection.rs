//! A client that is built from gRPC reflection alone.

use crate::harness::{Service, cache_directory, run_program};
use std::process::Command;

/// Reads the definitions through both versions of reflection, checks the field numbers, and calls the service with
/// messages that are built from these definitions.
const CLIENT: &str = r#"
import sys, grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
address = sys.argv[1]
channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
grpc.channel_ready_future(channel).result(timeout=60)

# The messages of reflection itself are the same in both versions; the client library has those of v1alpha.
from grpc_reflection.v1alpha import reflection_pb2 as reflection
def reflect(version, request):
    call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection.ServerReflectionResponse.FromString)
    return next(call(iter([request]), timeout=60))

for version in ("v1", "v1alpha"):
    names = [s.name for s in reflect(version, reflection.ServerReflectionRequest(list_services="")).list_services_response.service]
    assert "tracker.lock.v1alpha1.LockService" in names, names
    pool = descriptor_pool.DescriptorPool()
    found = {}
    def fetch(request):
        answer = reflect(version, request)
        assert answer.HasField("file_descriptor_response"), answer
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(data)
            if file.name not in found:
                found[file.name] = file
                for needed in file.dependency:
                    if needed not in found:
                        fetch(reflection.ServerReflectionRequest(file_by_filename=needed))
    fetch(reflection.ServerReflectionRequest(file_containing_symbol="tracker.lock.v1alpha1.LockService"))
    added = set()
    def add(name):
        if name not in added:
            added.add(name)
            for needed in found[name].dependency:
                add(needed)
            pool.Add(found[name])
    for name in found:
        add(name)
    service = pool.FindServiceByName("tracker.lock.v1alpha1.LockService")
    def call(method, **members):
        described = service.methods_by_name[method]
        ask, answer = (message_factory.GetMessageClass(one) for one in (described.input_type, described.output_type))
        run = channel.unary_unary(f"/{service.full_name}/{method}", request_serializer=ask.SerializeToString, response_deserializer=answer.FromString)
        return run(ask(**members), timeout=60)
    # Existing clients use these numbers.
    numbers = lambda name: {f.name: f.number for f in pool.FindMessageTypeByName("tracker.lock.v1alpha1." + name).fields}
    part = lambda have, want: all(have.get(name) == number for name, number in want.items()) or sys.exit(f"{have} is not {want}")
    part(numbers("Lock"), dict(id=1, service=2, who=3, created_at=4, environment=5, resource=6, event_id=7))
    part(numbers("CreateLockRequest"), dict(service=2, who=3, environment=4, resource=5, event_id=6))
    part(numbers("CreateLockResponse"), dict(lock=1))
    part(numbers("GetLockRequest"), dict(id=1)); part(numbers("GetLockResponse"), dict(lock=1))
    part(numbers("UpdateLockRequest"), dict(id=1, service=2, who=3, environment=4, resource=5, event_id=6))
    part(numbers("UpdateLockResponse"), dict(lock=1))
    part(numbers("UnLockRequest"), dict(id=1)); part(numbers("UnLockResponse"), dict(message=1, id=2, count=10))
    part(numbers("ListLocksRequest"), dict(per_page=1, page=2)); part(numbers("ListLocksResponse"), dict(locks=1, total_count=2))
    assert all(n < 10 or n >= 20 for name in ("Lock", "CreateLockRequest", "UpdateLockRequest") for n in numbers(name).values())

    lock = call("CreateLock", service="web", who=version, environment="prod", resource="db", event_id="7").lock
    assert lock.who == version and lock.created_at.seconds > 0, lock
    try:
        call("CreateLock", service="web", who="other", environment="prod", resource="db")
        sys.exit("the lock was granted twice")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.ALREADY_EXISTS, error
    assert call("GetLock", id=lock.id).lock == lock
    assert call("ListLocks").total_count == 1
    gone = call("UnLock", id=lock.id)
    assert (gone.message, gone.id, gone.count) == ("lock deleted", lock.id, 1), gone
    try:
        call("GetLock", id=lock.id)
        sys.exit("the lock is still held")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
print("done")
"#;

#[test]
fn a_client_that_is_built_from_reflection_can_acquire_and_release_a_lock() {
    let python = cache_directory().join("grpc-client/bin/python");
    if !Command::new(&python).args(["-c", "import grpc_reflection"]).output().is_ok_and(|tried| tried.status.success())
    {
        let home = cache_directory().join("grpc-client");
        run_program(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
        let mut install = Command::new(&python);
        run_program(install.args([
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "grpcio",
            "grpcio-reflection",
        ]));
    }
    let service = Service::new();
    let mut client = Command::new("timeout");
    client.arg("120").arg(&python).args(["-c", CLIENT, &service.grpc]).env_remove("http_proxy");
    assert_eq!(run_program(&mut client), "done\n");
    assert!(service.list("").is_empty());
}
