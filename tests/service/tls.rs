//! TLS, and the certificates of clients.

use crate::harness::{Start, run_program, write_file};
use crate::startup::NO_STORE;
use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Creates an authority with a certificate for 127.0.0.1 and one for a client, and the same for another authority.
fn create_certificates(directory: &Path) {
    let script = r#"
        set -e
        new() { openssl req -quiet -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -subj "/CN=$1" "${@:2}"; }
        new ca -x509 -days 2 -out ca.pem
        new other -x509 -days 2 -out other.pem
        new server -out server.csr
        new client -out client.csr
        new stranger -out stranger.csr
        new next -out next.csr
        sign() { openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 2 -out "$1.pem" -extfile <(printf '%s' "$3"); }
        sign server ca 'subjectAltName=IP:127.0.0.1' 2>/dev/null
        sign client ca 'extendedKeyUsage=clientAuth' 2>/dev/null
        sign next other 'subjectAltName=IP:127.0.0.1' 2>/dev/null
        sign stranger other 'extendedKeyUsage=clientAuth' 2>/dev/null
    "#;
    // Older versions of openssl have no -quiet.
    let script = script.replace(" -quiet", "").replace("\"${@:2}\"; }", "\"${@:2}\" 2>/dev/null; }");
    run_program(Command::new("bash").arg("-c").arg(script).current_dir(directory));
}

#[test]
fn the_service_warns_about_a_key_that_every_user_can_read() {
    for (mode, warns) in [(0o644, true), (0o640, false)] {
        let start = Start::new();
        create_certificates(start.directory());
        let path = |name| start.path(name).to_str().unwrap().to_owned();
        let (certificate, key) = (path("server.pem"), path("server.key"));
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let args = ["--tls-cert", &certificate, "--tls-key", &key];
        let output = start.args(&args).store(NO_STORE).run_and_expect(125);
        assert_eq!(output.contains("every user of this machine can read the key in "), warns, "{mode:o}: {output}");
    }
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_accepted() {
    let start = Start::new();
    let directory = start.directory().to_owned();
    create_certificates(&directory);
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let options = [("--tls-cert", "server.pem"), ("--tls-key", "server.key"), ("--tls-client-ca", "ca.pem")];
    let start = options.iter().fold(start, |start, (option, file)| start.args(&[option, &path(file)]));
    let service = start.args(&["--log-all"]).start();
    let list = |authority: &str, client: &[String]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "--cacert", &path(authority)]).args(client).env_remove("https_proxy");
        command.arg(format!("https://{}/api/v1alpha1/locks/list", service.rest));
        command.output().unwrap()
    };
    let identify = |name: &str| {
        ["--cert".to_owned(), path(&format!("{name}.pem")), "--key".to_owned(), path(&format!("{name}.key"))]
    };
    let is_accepted = |authority: &str, name: &str| list(authority, &identify(name)).status.success();
    let known = list("ca.pem", &identify("client"));
    assert!(known.status.success(), "{known:?}");
    assert!(String::from_utf8(known.stdout).unwrap().contains("\"locks\":[]"));
    assert!(!list("ca.pem", &[]).status.success());
    assert!(!is_accepted("ca.pem", "stranger"));
    // A client without TLS is refused, and one that sends nothing delays no other client.
    let mut plain = Command::new("curl");
    plain.args(["-s", "--max-time", "60", &format!("http://{}/healthz", service.rest)]);
    assert!(!plain.status().unwrap().success());
    let _silent = TcpStream::connect(&service.rest).unwrap();
    assert!(is_accepted("ca.pem", "client"));
    service.wait_for_log(&["\"event\":\"list\"", "\"certificate\":\"client\""]);
    // An unusable file changes nothing.
    let copy = |from: &str, to: &str| write_file(Path::new(&path(to)), &fs::read_to_string(path(from)).unwrap());
    copy("client.key", "server.key");
    service.signal("HUP");
    service.wait_for_log(&["\"event\":\"not_reloaded\"", "cannot use "]);
    assert!(is_accepted("ca.pem", "client"));
    // Another authority for the certificates of both sides.
    copy("next.key", "server.key");
    copy("next.pem", "server.pem");
    copy("other.pem", "ca.pem");
    service.signal("HUP");
    service.wait_for_log(&["\"event\":\"reloaded\"", "certificates"]);
    assert!(is_accepted("other.pem", "stranger"));
    assert!(!is_accepted("other.pem", "client"));
}

#[test]
fn a_client_certificate_has_the_permissions_of_its_line() {
    let start = Start::new().token_file("build cert:client lock:read\nci lock:read,lock:write secret\n");
    let directory = start.directory().to_owned();
    create_certificates(&directory);
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let options = [("--tls-cert", "server.pem"), ("--tls-key", "server.key"), ("--tls-client-ca", "ca.pem")];
    let start = options.iter().fold(start, |start, (option, file)| start.args(&[option, &path(file)]));
    let service = start.args(&["--log-all"]).start();
    let status = |identity: &str, args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &path("ca.pem")]);
        command.args(["--cert", &path(&format!("{identity}.pem")), "--key", &path(&format!("{identity}.key"))]);
        command.env_remove("https_proxy").arg(format!("https://{}{}", service.rest, args[0])).args(&args[1..]);
        run_program(&mut command)
    };
    let create = ["/api/v1alpha1/lock", "-d", r#"{"service":"web","who":"ann"}"#];
    let with_token = |token: &'static str| [&create[..], &["-H", token]].concat();
    assert_eq!(status("client", &["/api/v1alpha1/locks/list"]), "200");
    service.wait_for_log(&["\"event\":\"list\"", "\"by\":\"build\"", "\"certificate\":\"client\""]);
    assert_eq!(status("client", &create), "403");
    service.wait_for_log(&["the certificate of build does not permit lock:write"]);
    // A token has priority, also one that is wrong.
    assert_eq!(status("client", &with_token("X-Api-Key: secret")), "200");
    assert_eq!(status("client", &with_token("X-Api-Key: wrong")), "401");
    // The certificate of the server itself has no line.
    assert_eq!(status("server", &["/api/v1alpha1/locks/list"]), "401");
}

#[test]
fn the_service_warns_about_a_certificate_in_the_token_file_that_it_never_asks_for() {
    let start = Start::new().token_file("build cert:client lock:read\n");
    let output = start.store(NO_STORE).run_and_expect(125);
    assert!(output.contains("the line of build in ") && output.contains("--tls-client-ca"), "{output}");
}
