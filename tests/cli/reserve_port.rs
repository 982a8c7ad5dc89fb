//! `reserve`: ports that are in use, and the probes that find this out.

use crate::call::Holder;
use crate::process::wait_until;
use crate::reserve::call;
use crate::reserve_faults::trace_reserve;
use crate::scene::{HELPER, Scene};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port for the tests, and the number of them.
const FIRST_PORT: u16 = 20_000;
const PORTS: u32 = 10_000;

/// A process that has bound a port. The test itself may bind none: a child that another thread starts has the socket, too,
/// until it calls execve(2).
pub(crate) struct BoundPort {
    pub(crate) port: u16,
    process: Holder,
}

impl BoundPort {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Binds a free port. The arguments are the first port to try, and the number of ports.
const BIND_PORT: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[3] else socket.AF_INET
def bind(kind, port):
    bound = socket.socket(family, kind)
    bound.bind((sys.argv[3], port))
    return bound
try:
    socket.socket(family, socket.SOCK_STREAM).bind((sys.argv[3], 0))
except OSError as error:
    print(error, flush=True)
    sys.exit()
for port in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
    try:
        udp, tcp = bind(socket.SOCK_DGRAM, port), bind(socket.SOCK_STREAM, port)
        tcp.listen()
        break
    except OSError:
        pass
(tcp if sys.argv[4] == 'udp' else udp).close()
print(port, flush=True)
sys.stdin.read(1)
";

/// Binds a port that no other process gets from the kernel, because the kernel chooses higher ones, and that is free for both
/// protocols. Returns `None` if the address cannot be bound.
pub(crate) fn bind_port(scene: &Scene, address: IpAddr, udp: bool) -> Option<BoundPort> {
    let first = FIRST_PORT + u16::try_from(next_port()).unwrap();
    let protocol = if udp { "udp" } else { "tcp" };
    let call =
        scene.call("python3").args(["-c", BIND_PORT, &first.to_string(), "1000", &address.to_string(), protocol]);
    let process = call.hold();
    let port = process.first_line.parse().ok()?;
    Some(BoundPort { port, process })
}

/// Makes a connection to a free port of its own and ends it, and prints the port. The arguments are those of `BIND_PORT`.
const CONNECT: &str = "
import socket, sys
for port in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):
    try:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(('127.0.0.1', port))
        listener.listen()
        break
    except OSError:
        pass
client = socket.create_connection(('127.0.0.1', port))
server, _ = listener.accept()
# The side that closes first is left in TIME_WAIT.
server.close()
client.recv(1)
client.close()
print(port)
";

/// Returns the offset of a port that no other test of this process uses.
fn next_port() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS
}

#[test]
fn a_port_in_use_is_not_given() {
    let (v4, v6): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let (all4, all6): (IpAddr, IpAddr) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    for (address, udp) in [v4, v6, all4, all6].into_iter().flat_map(|address| [(address, false), (address, true)]) {
        // A system without IPv6 cannot bind the port.
        let scene = Scene::new();
        let Some(held) = bind_port(&scene, address, udp) else { continue };
        let (port, range) = (held.port.to_string(), format!("{port}-{port}", port = held.port));
        let args = ["reserve", "--range", &range];
        let said = call(&scene, "a", args.iter().chain(&["--require", &port])).status(75).err("it is in use").run();
        assert!(!said.err.contains("by pid"), "who it is stands in other sentences");
        call(&scene, "a", args).status(75).err("0 reserved, 0 leased, 0 excluded, 1 in use").run();
        let other = if udp { "tcp" } else { "udp" };
        call(&scene, "a", args.iter().chain(&["--probe", other])).out(format!("{port}\n")).run();
        // If a reserved port is in use, the process that uses it is named.
        let user = format!("is in use by pid {} (", held.pid());
        call(&scene, "a", args).out(format!("{port}\n")).err(user).run();
        call(&scene, "a", args.iter().chain(&["-q"])).out(format!("{port}\n")).run();
    }
}

#[test]
fn the_process_that_uses_the_preferred_port_is_named() {
    let scene = Scene::new();
    let held = bind_port(&scene, Ipv4Addr::LOCALHOST.into(), false).unwrap();
    let (port, range) = (held.port, format!("1-{}", held.port));
    let command = call(&scene, "a", ["reserve", "--range", &range, "--prefer", &port.to_string()]).out("");
    command.err(format!("{port} is in use by pid {} (", held.pid())).err("; reserved ").run();
}

#[test]
fn ended_connections_and_without_wildcard_other_interfaces_are_not_in_use() {
    let scene = Scene::new();
    let first = FIRST_PORT + u16::try_from(next_port()).unwrap();
    let connected = scene.call("python3").args(["-c", CONNECT, &first.to_string(), "1000"]);
    let port: u16 = connected.out("").run().out.trim().parse().unwrap();
    let waits = format!(":{port:04X} ");
    let table = || fs::read_to_string("/proc/net/tcp").unwrap();
    wait_until("it is in TIME_WAIT", || table().lines().any(|line| line.contains(&waits) && line.contains(" 06 ")));
    let range = port.to_string();
    call(&scene, "a", ["reserve", "--probe", "tcp", "--range", &range]).out(format!("{port}\n")).run();
    // Another loopback address serves as another interface.
    let Some(other) = bind_port(&scene, Ipv4Addr::new(127, 0, 0, 2).into(), false) else { return };
    let range = other.port.to_string();
    let wildcard = ["reserve", "--probe", "tcp,wildcard", "--range", &range];
    call(&scene, "b", wildcard).status(75).err("1 in use").run();
    call(&scene, "b", ["reserve", "--probe", "tcp", "--range", &range]).out(range.as_str()).run();
}

#[test]
fn a_port_that_the_user_may_not_bind_is_reported() {
    let scene = Scene::new();
    let (status, said) =
        trace_reserve(&scene, &["-e", "inject=bind:error=EACCES"], &["reserve", "--range", "80-81", "--require", "80"]);
    assert_eq!(status, Some(75));
    assert!(said.contains("cannot reserve 80: it cannot be bound by this user"), "{said}");
}

#[test]
fn a_port_that_the_directory_already_has_is_not_probed() {
    let scene = Scene::new();
    let binds = || {
        let mut command = scene.program("strace");
        command.args(["-qq", "-o", "trace", "-e", "trace=bind", HELPER, "reserve", "--range", "18000-19999"]);
        assert!(command.current_dir(scene.path(".")).output().unwrap().status.success());
        fs::read_to_string(scene.path("trace")).unwrap().lines().count()
    };
    assert!(binds() > 0);
    assert_eq!(binds(), 0);
}
