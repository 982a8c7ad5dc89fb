//! The files of certificates and keys for TLS.

use crate::etcd::choose_ports;
use crate::machine::Machine;
use crate::process::run_to_end;
use std::fs;
use std::process::Command;

/// A certificate of X.509 version 1. Not every version of openssl(1) makes one.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBBjCBrAIBATAKBggqhkjOPQQDAjAOMQwwCgYDVQQDDANvbGQwIBcNMjYxMTMw
MjMxMTA1WhgPMjEyNjExMDYyMzExMDVaMA4xDDAKBgNVBAMMA29sZDBZMBMGByqG
SM49AgEGCCqGSM49AwEHA0IABNuu13JSOCTaeHJKB2hjrpotn/8otWWM7fW+Oqlb
MljCUl/HAWDQZp4utXUEHStvUqQORa2s82RROgagDcFa6s0wCgYIKoZIzj0EAwID
SQAwRgIhAI842/XGGMbf5rPUMMuADHceDgKEqdbgpmkb6JkOdiiAAiEAsDWAGHrW
o3wHWsJFMvoHV9ZNKtt5fRmqOvMWz6gpICc=
-----END CERTIFICATE-----
";

const CERTIFICATE_IS_UNUSABLE: &str = "contains a certificate that cannot be used: it is damaged, or not of X.509 version 3, or has an extension that is not supported";

const KEY_IS_UNUSABLE: &str = "contains a key that cannot be used: it is damaged, or not RSA (2048 to 4096 bits), ECDSA (P-256, P-384) or Ed25519";

/// A directory with files of certificates and keys.
struct Files(tempfile::TempDir);

impl Files {
    /// Creates `client.pem` and `client.key`, `other.pem` and `other.key`, and files with damaged copies of them.
    fn create() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = "set -e; cd \"$1\"; umask 077
        for name in client other; do
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=$name -keyout $name.key -out $name.pem
            # Only the first line of the Base64 text, so the block can be decoded, but not what it contains.
            for kind in key pem; do sed '3,/END/{/END/!d}' $name.$kind >cut-$name.$kind; done
        done
        for kind in key pem; do
            : >empty.$kind
            echo 'not PEM' >text.$kind
            sed '/END/d' client.$kind >endless.$kind
            sed 's/^-*BEGIN/-----BEGIN/; s/-----$/--/' client.$kind >header.$kind
            sed '2s/^./%/' client.$kind >letters.$kind
        done
        cat cut-other.pem client.pem >second.pem
        openssl pkcs8 -topk8 -in client.key -passout pass:word -out passphrase.key
        openssl ec -in client.key -aes256 -passout pass:word -out traditional.key
        openssl ecparam -name secp521r1 -genkey -noout -out curve.key";
        fs::write(directory.path().join("old.pem"), VERSION_1).unwrap();
        run_to_end(Command::new("bash").args(["-c", script, "bash"]).arg(directory.path())).status(0);
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn a_damaged_file_of_certificates_or_keys_is_refused_at_once_with_its_name() {
    let files = Files::create();
    // No process listens at this port.
    let port = choose_ports(1)[0];
    let certificate = [
        ("empty.pem", "is empty"),
        ("text.pem", "contains no certificate"),
        ("client.key", "contains no certificate"),
        ("endless.pem", "cannot be decoded: a PEM block has no END line"),
        ("header.pem", "cannot be decoded: a PEM block has a damaged BEGIN line"),
        ("letters.pem", "cannot be decoded: a PEM block is not Base64"),
        ("cut-client.pem", CERTIFICATE_IS_UNUSABLE),
    ];
    let key = [
        ("empty.key", "is empty"),
        ("text.key", "contains no private key without a passphrase"),
        ("client.pem", "contains no private key without a passphrase"),
        ("passphrase.key", "contains no private key without a passphrase"),
        ("endless.key", "cannot be decoded: a PEM block has no END line"),
        ("header.key", "cannot be decoded: a PEM block has a damaged BEGIN line"),
        ("letters.key", "cannot be decoded: a PEM block is not Base64"),
        ("traditional.key", "contains no private key without a passphrase"),
        ("cut-client.key", KEY_IS_UNUSABLE),
        ("curve.key", KEY_IS_UNUSABLE),
    ];
    let variables = [
        ("ABA_LOCK_SERVER_CACERT", &certificate[..]),
        ("ABA_LOCK_SERVER_CERT", &certificate),
        ("ABA_LOCK_SERVER_KEY", &key),
    ];
    for (variable, damaged) in variables {
        for (file, cause) in damaged {
            // The last of two values of a variable counts.
            let machine = Machine::new(&format!("https://127.0.0.1:{port}"))
                .with("ABA_LOCK_SERVER_CERT", files.path("client.pem"))
                .with("ABA_LOCK_SERVER_KEY", files.path("client.key"))
                .with(variable, files.path(file));
            let message =
                format!("{} (from {variable}) {cause}\nhint: use a complete file in PEM format\n", files.path(file));
            machine.lease(&["show", "deploy"]).status(2).out("").err(&message);
        }
    }
}

#[test]
fn a_bundle_of_authorities_may_have_some_that_cannot_be_used() {
    let files = Files::create();
    let port = choose_ports(1)[0];
    let machine =
        Machine::new(&format!("https://127.0.0.1:{port}")).with("ABA_LOCK_SERVER_CACERT", files.path("second.pem"));
    machine.lease(&["show", "deploy"]).status(125).out("").err("no lease server answers: ");
}

#[test]
fn a_client_key_that_does_not_fit_is_refused_at_once() {
    let files = Files::create();
    let port = choose_ports(1)[0];
    let (certificate, key, old) = (files.path("client.pem"), files.path("other.key"), files.path("old.pem"));
    for scheme in ["https", "etcds"] {
        let machine = Machine::new(&format!("{scheme}://127.0.0.1:{port}"))
            .with("ABA_LOCK_SERVER_CERT", &certificate)
            .with("ABA_LOCK_SERVER_KEY", &key);
        let message = format!(
            "the key in {key} (from ABA_LOCK_SERVER_KEY) does not fit the certificate in {certificate} (from ABA_LOCK_SERVER_CERT)\nhint: "
        );
        for args in [
            &["show", "deploy"][..],
            &["run", "--max-wait", "1h", "deploy", "--", "echo", "ran"],
            &["acquire", "--max-wait", "1h", "deploy"],
            &["release", "deploy/7"],
        ] {
            machine.lease(args).status(2).out("").err(&message);
        }
        machine.aba(&["lock", "-w", "deploy", "--", "echo", "ran"]).status(2).out("").err(&message);
        let machine = machine.with("ABA_LOCK_SERVER_CERT", &old).with("ABA_LOCK_SERVER_KEY", files.path("client.key"));
        let message = format!("{old} (from ABA_LOCK_SERVER_CERT) {CERTIFICATE_IS_UNUSABLE}\nhint: ");
        machine.lease(&["show", "deploy"]).status(2).out("").err(&message);
    }
}

#[test]
fn a_server_without_tls_can_be_used_whatever_the_files_contain() {
    let files = Files::create();
    let port = choose_ports(1)[0];
    for scheme in ["http", "etcd"] {
        let machine = Machine::new(&format!("{scheme}://127.0.0.1:{port}"))
            .with("ABA_LOCK_SERVER_CACERT", files.path("cut-client.pem"))
            .with("ABA_LOCK_SERVER_CERT", files.path("client.pem"))
            .with("ABA_LOCK_SERVER_KEY", files.path("other.key"));
        machine.lease(&["show", "deploy"]).status(125).out("").err("no lease server answers: ");
    }
}

#[test]
fn a_missing_file_of_certificates_or_keys_is_named_at_once() {
    let port = choose_ports(1)[0];
    for variable in ["ABA_LOCK_SERVER_CACERT", "ABA_LOCK_SERVER_CERT", "ABA_LOCK_SERVER_KEY"] {
        for (file, cause) in [("/nowhere/file.pem", "No such file or directory"), ("/", "Is a directory")] {
            let machine = Machine::new(&format!("https://127.0.0.1:{port}")).with(variable, file);
            let message = format!("cannot read {file} (from {variable}): {cause}\n");
            machine
                .lease(&["run", "--max-wait", "1h", "deploy", "--", "echo", "ran"])
                .status(125)
                .out("")
                .err(&message);
        }
    }
}
