//! The manifests for Kubernetes: they have the schema of Kubernetes, and start the service as its options are now.

use crate::etcd_server::EtcdServer;
use crate::harness::{Service, Start, cache_directory, run_program, write_file};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The oldest release with stable access modes of one pod, and a recent one.
const RELEASES: [&str; 2] = ["1.29", "1.37"];

const MANIFESTS: [&str; 3] = ["aba-lockd.yaml", "aba-lockd-etcd.yaml", "cronjob.yaml"];

fn find_manifest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../dist/kubernetes").join(name)
}

/// Returns a program of the tool that checks the schema, which contains the schemas of all releases.
fn find_tool(program: &str) -> PathBuf {
    let home = cache_directory().join("kubernetes-validate");
    let tool = home.join("bin").join(program);
    if !home.join("complete").exists() {
        run_program(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home));
        let mut install = Command::new(home.join("bin/python"));
        install.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "kubernetes-validate==1.37.0"]);
        run_program(&mut install);
        write_file(&home.join("complete"), "");
    }
    tool
}

fn check_schema(release: &str, files: &[PathBuf]) -> Output {
    let mut check = Command::new("timeout");
    check.arg("120").arg(find_tool("kubernetes-validate")).args(["--strict", "-k", release]).args(files);
    check.output().unwrap()
}

/// Returns the objects of a manifest.
fn read_objects(name: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let mut read = Command::new(find_tool("python"));
    serde_json::from_str(&run_program(read.args(["-c", script]).arg(find_manifest(name)))).unwrap()
}

fn find_object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

/// Returns the specification of the pods.
fn find_pod(objects: &[Value]) -> &Value {
    let workload = objects.iter().find(|object| object["spec"].get("template").is_some());
    match workload {
        Some(workload) => &workload["spec"]["template"]["spec"],
        None => &find_object(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"],
    }
}

fn list_names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[test]
fn the_manifests_have_the_schema_of_kubernetes() {
    let files = MANIFESTS.map(find_manifest);
    for release in RELEASES {
        let output = check_schema(release, &files);
        assert!(output.status.success(), "{release}: {output:?}");
    }
    // The tool notices a wrong name.
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.yaml");
    let text = std::fs::read_to_string(&files[0]).unwrap();
    write_file(&wrong, &text.replace("readOnlyRootFilesystem", "readonlyRootFilesystem"));
    assert!(!check_schema(RELEASES[0], &[wrong]).status.success());
    // These use the tool, too, so they are parts of the test that installs it.
    check_references();
    check_restrictions();
    check_start();
}

/// Checks that the objects find each other.
fn check_references() {
    for name in &MANIFESTS[..2] {
        let objects = read_objects(name);
        let workload = objects.iter().find(|object| object["spec"].get("template").is_some()).unwrap();
        let labels = &workload["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&workload["spec"]["selector"]["matchLabels"], labels, "{name}");
        let service = find_object(&objects, "Service");
        assert_eq!(&service["spec"]["selector"], labels, "{name}");
        for other in objects.iter().filter(|object| object["kind"] == "PodDisruptionBudget") {
            assert_eq!(&other["spec"]["selector"]["matchLabels"], labels, "{name}");
        }
        let ports = list_names(&find_pod(&objects)["containers"][0]["ports"]);
        for port in service["spec"]["ports"].as_array().unwrap() {
            assert!(ports.contains(&port["targetPort"].as_str().unwrap()), "{name}: {port}");
        }
        let replicas = workload["spec"]["replicas"].as_u64();
        let is_stateful = workload["kind"] == "StatefulSet";
        assert_eq!((replicas, is_stateful), if name.contains("etcd") { (Some(2), false) } else { (Some(1), true) });
    }
    for name in MANIFESTS {
        let objects = read_objects(name);
        let pod = find_pod(&objects);
        let mut volumes = list_names(&pod["volumes"]);
        let claims = objects.iter().filter_map(|object| object["spec"]["volumeClaimTemplates"].as_array()).flatten();
        volumes.extend(claims.map(|claim| claim["metadata"]["name"].as_str().unwrap()));
        let mut mounted = list_names(&pod["containers"][0]["volumeMounts"]);
        volumes.sort_unstable();
        mounted.sort_unstable();
        assert_eq!(volumes, mounted, "{name}");
    }
}

/// Checks that the pods have no rights that they do not need (the restricted level of the pod security standards).
fn check_restrictions() {
    for name in MANIFESTS {
        let objects = read_objects(name);
        let pod = find_pod(&objects);
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        let security = &pod["securityContext"];
        assert_eq!(
            (&security["runAsNonRoot"], &security["seccompProfile"]["type"]),
            (&true.into(), &"RuntimeDefault".into())
        );
        assert!(security["runAsUser"].as_u64() > Some(0), "{name}");
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            let values =
                ["allowPrivilegeEscalation", "privileged", "readOnlyRootFilesystem"].map(|name| &security[name]);
            assert_eq!(values, [&false.into(), &false.into(), &Value::from(true)], "{name}");
            assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}), "{name}");
        }
    }
}

/// Starts the service with the arguments of the pod. `store` replaces the value of `--store`.
fn start_as_pod(pod: &Value, store: &str) -> Service {
    let container = &pod["containers"][0];
    let mut args = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    assert_eq!((args.next(), &container["command"]), (Some("serve"), &serde_json::json!(["/usr/local/bin/aba-lockd"])));
    let mut start = Start::new();
    let mut seen = Vec::new();
    for arg in args {
        let (option, value) = arg.split_once('=').unwrap();
        seen.push(option);
        start = match option {
            // The harness gives the addresses. The ports are those of the container.
            "--listen" | "--grpc-listen" => {
                let port = value.strip_prefix("0.0.0.0:").unwrap().parse::<u64>().unwrap();
                let ports = container["ports"].as_array().unwrap();
                assert!(ports.iter().any(|known| known["containerPort"] == port), "{arg}");
                start
            }
            "--store" => start.store(store),
            "--token-file" => start.token_file("probe lock:read probe\n"),
            other => panic!("the test does not know {other}"),
        };
    }
    assert_eq!(seen, ["--listen", "--grpc-listen", "--store", "--token-file"]);
    let service = start.start();
    for probe in ["readinessProbe", "livenessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(container[probe]["httpGet"]["port"], "http");
        // The kubelet calls the address of the pod, without a token.
        let answer = service.connect().call("GET", path, &[("Host", "10.1.2.3:8080")], "");
        assert_eq!(answer.status, 200, "{probe}: {answer:?}");
    }
    assert_ne!(container["readinessProbe"]["httpGet"]["path"], container["livenessProbe"]["httpGet"]["path"]);
    service
}

fn check_start() {
    let directory = tempfile::tempdir().unwrap();
    let objects = read_objects(MANIFESTS[0]);
    let store = format!("sqlite:{}", directory.path().join("lockd.db").display());
    start_as_pod(find_pod(&objects), &store).terminate();
    let etcd = EtcdServer::start();
    let objects = read_objects(MANIFESTS[1]);
    start_as_pod(find_pod(&objects), &format!("etcd://{}", etcd.address)).terminate();
}
