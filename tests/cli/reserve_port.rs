//! `reserve`: ports that are in use, and the probes that find this out.

use crate::process::wait_until;
use crate::reserve::call;
use crate::reserve_faults::trace_reserve;
use crate::scene::{HELPER, Scene};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// The first port for the tests, and the number of them.
const FIRST_PORT: u16 = 20_000;
const PORTS: u32 = 10_000;

/// A socket that the test has bound.
pub(crate) enum BoundPort {
    Listener(TcpListener),
    Socket(UdpSocket),
}

/// Binds a port that no other process gets from the kernel, because the kernel chooses higher ones, and that is free for both
/// protocols. Returns `None` if the address cannot be bound.
pub(crate) fn bind_port(address: IpAddr, udp: bool) -> Option<(u16, BoundPort)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..PORTS {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = FIRST_PORT + u16::try_from(next).unwrap();
        match (UdpSocket::bind((address, port)), TcpListener::bind((address, port))) {
            (Ok(socket), Ok(_)) if udp => return Some((port, BoundPort::Socket(socket))),
            (Ok(_), Ok(listener)) => return Some((port, BoundPort::Listener(listener))),
            (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::AddrInUse => {}
            _ => return None,
        }
    }
    None
}

#[test]
fn a_port_in_use_is_not_given() {
    let (v4, v6): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let (all4, all6): (IpAddr, IpAddr) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    for (address, udp) in [v4, v6, all4, all6].into_iter().flat_map(|address| [(address, false), (address, true)]) {
        // A system without IPv6 cannot bind the port.
        let Some((port, held)) = bind_port(address, udp) else { continue };
        let scene = Scene::new();
        let (port, range) = (port.to_string(), format!("{port}-{port}"));
        let args = ["reserve", "--range", &range];
        let said = call(&scene, "a", args.iter().chain(&["--require", &port])).status(75).err("it is in use").run();
        assert!(!said.err.contains("by pid"), "who it is stands in other sentences");
        call(&scene, "a", args).status(75).err("0 reserved, 0 leased, 0 excluded, 1 in use").run();
        let other = if udp { "tcp" } else { "udp" };
        call(&scene, "a", args.iter().chain(&["--probe", other])).out(format!("{port}\n")).run();
        // If a reserved port is in use, the process that uses it is named.
        let mine = format!("is in use by pid {} (", std::process::id());
        call(&scene, "a", args).out(format!("{port}\n")).err(mine).run();
        call(&scene, "a", args.iter().chain(&["-q"])).out(format!("{port}\n")).run();
        match held {
            BoundPort::Listener(listener) => drop(listener),
            BoundPort::Socket(socket) => drop(socket),
        }
    }
}

#[test]
fn the_process_that_uses_the_preferred_port_is_named() {
    let scene = Scene::new();
    let (port, _held) = bind_port(Ipv4Addr::LOCALHOST.into(), false).unwrap();
    let range = format!("1-{port}");
    let command = call(&scene, "a", ["reserve", "--range", &range, "--prefer", &port.to_string()]).out("");
    command.err(format!("{port} is in use by pid {} (", std::process::id())).err("; reserved ").run();
}

#[test]
fn ended_connections_and_without_wildcard_other_interfaces_are_not_in_use() {
    let scene = Scene::new();
    let Some((port, BoundPort::Listener(listener))) = bind_port(Ipv4Addr::LOCALHOST.into(), false) else {
        panic!("127.0.0.1 cannot be bound");
    };
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    // The side that closes first is left in TIME_WAIT.
    drop(server);
    let _ = std::io::copy(&mut &client, &mut std::io::sink());
    drop((client, listener));
    let waits = format!(":{port:04X} ");
    let table = || fs::read_to_string("/proc/net/tcp").unwrap();
    wait_until("it is in TIME_WAIT", || table().lines().any(|line| line.contains(&waits) && line.contains(" 06 ")));
    assert!(UdpSocket::bind(("127.0.0.1", port)).is_ok());
    let range = port.to_string();
    call(&scene, "a", ["reserve", "--probe", "tcp", "--range", &range]).out(format!("{port}\n")).run();
    // Another loopback address serves as another interface.
    let Some((port, _other)) = bind_port(Ipv4Addr::new(127, 0, 0, 2).into(), false) else { return };
    let range = port.to_string();
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
