//! Stock kubectl, both ends of the skew: what a newcomer types in the first hour.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use orlop_tests::stack::Kubectl;
use orlop_tests::{Sh, Stack, eventually, ready_or_skip};

use crate::DEMO;

/// One kubectl on one stack, in the demo's namespace.
struct Client<'a> {
    stack: &'a Stack,
    version: Kubectl,
}

impl Client<'_> {
    fn sh(&self, line: &str) -> Sh {
        let mut args = vec!["-n", "demo"];
        args.extend(line.split_whitespace());
        self.stack.kubectl_of(self.version, &args)
    }

    fn ok(&self, line: &str) -> String {
        self.sh(line).run().ok().to_owned()
    }

    fn says(&self, line: &str, words: &[&str]) {
        let out = self.sh(line).run();
        let text = out.ok();
        for word in words {
            assert!(text.contains(word), "{:?}: {word:?} is missing in {out}", self.version);
        }
    }
}

#[test]
fn the_first_hour_with_kubectl() {
    let Some(()) = ready_or_skip("the_first_hour_with_kubectl") else { return };
    let stack = Stack::up();
    stack.apply(DEMO);
    for version in [Kubectl::V1_32, Kubectl::V1_36] {
        // A roll-out, as the round before made some, leaves other Pods.
        let pods = stack.ready_pods("demo", "app=web", 3);
        let pod = pods[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let client = Client { stack: &stack, version };
        reading(&client, &pod);
        streams(&client, &pod);
        changing(&client);
    }
    let client = Client { stack: &stack, version: Kubectl::V1_36 };
    watching(&client);
    deleting(&client);
}

fn reading(client: &Client<'_>, pod: &str) {
    client.says("version", &["Server Version: v1.36"]);
    client.says("get nodes -o wide", &["node-1", "Ready", "containerd://"]);
    client.says("get pods -o wide", &[pod, "1/1", "Running", "node-1"]);
    client.says(
        "get deployment,replicaset,service,endpointslices",
        &["deployment.apps/web", "3/3", "service/web", "80:30080/TCP"],
    );
    client.says(&format!("get pod {pod} -o yaml"), &["phase: Running", "qosClass: BestEffort", "podIP:", "kind: Pod"]);
    client.says(
        &format!("describe pod {pod}"),
        &["Successfully assigned demo/", "Created", "Started", "Ready:          True", "/etc/site from site"],
    );
    client.says("describe node node-1", &["KubeletReady", "Allocatable:", "Non-terminated Pods:"]);
    client.says("describe deployment web", &["ScalingReplicaSet", "RollingUpdateStrategy"]);
    client.says("describe service web", &["NodePort", "30080/TCP", "Endpoints:"]);
    client.says("get events", &["Scheduled", "Pulled", "Started"]);
    client.says("api-resources", &["deployments", "apps/v1", "endpointslices", "configmaps", "cm"]);
    client.says("api-versions", &["apps/v1", "v1", "rbac.authorization.k8s.io/v1"]);
    client.says("explain pod.spec", &["containers", "KIND:       Pod", "restartPolicy"]);
    client.says("explain deployment.spec.strategy.rollingUpdate", &["maxSurge"]);
    client.says("get pods -l app=web --field-selector status.phase=Running -o name", &[&format!("pod/{pod}")]);
    client.says("auth can-i create pods", &["yes"]);
    client.says("auth whoami", &["kubernetes-admin", "system:masters"]);
    client.says("get pods --chunk-size=1 -o name", &[&format!("pod/{pod}")]);
    client.says("cluster-info", &["is running at"]);
}

fn streams(client: &Client<'_>, pod: &str) {
    client.says(&format!("logs {pod}"), &["serving on 8080"]);
    client.says("logs deployment/web --tail=1 --timestamps", &["serving on 8080", "T"]);
    client.says(&format!("exec {pod} -- sh -c hostname"), &[pod]);
    let echoed = client.sh(&format!("exec -i {pod} -- cat")).stdin("through and back\n").run();
    assert_eq!(echoed.ok(), "through and back\n", "{:?}", client.version);
    let code = client.sh(&format!("exec {pod} -- false")).run();
    assert_eq!(code.code, 1, "the exit code of the command: {code}");
    terminal(client, pod);
    follow(client, pod);
    forward(client, pod);
}

/// `exec -it` on a real terminal.
fn terminal(client: &Client<'_>, pod: &str) {
    let inner = client.sh(&format!("exec -it {pod} -- tty"));
    let command = inner.command();
    let line: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|a| format!("'{}'", a.to_string_lossy()))
        .collect();
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]).stdin(Stdio::null());
    for (key, value) in command.get_envs() {
        script.env(key, value.unwrap_or_default());
    }
    let out = script.output().expect("script");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains("/dev/pts/"), "{:?}: no terminal: {text}", client.version);
}

/// `logs -f` ends neither early nor late.
fn follow(client: &Client<'_>, pod: &str) {
    let mut child = client.sh(&format!("logs -f {pod}")).spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("serving on 8080"), "{first}");
    let _ = client.ok(&format!("exec {pod} -- sh -c echo${{IFS}}marker-line>/proc/1/fd/1"));
    let next = lines.next().expect("a second line, followed").expect("text");
    assert_eq!(next, "marker-line");
    child.kill().unwrap();
    let _ = child.wait();
}

fn forward(client: &Client<'_>, pod: &str) {
    let mut child = client.sh(&format!("port-forward pod/{pod} :8080")).spawn();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.split("127.0.0.1:").nth(1).and_then(|r| r.split_whitespace().next());
    let Some(port) = port else {
        let _ = child.kill();
        let mut stderr = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut stderr);
        panic!("{:?}: port-forward said {line:?} {stderr}", client.version);
    };
    for _ in 0..3 {
        let out = client.stack.on_node(&["curl", "-s", "-m", "5", &format!("http://127.0.0.1:{port}/")]).run();
        assert_eq!(out.ok().trim(), pod, "{:?}", client.version);
    }
    child.kill().unwrap();
    let _ = child.wait();
}

fn changing(client: &Client<'_>) {
    client.says("scale deployment/web --replicas=4", &["scaled"]);
    let _ = client.stack.ready_pods("demo", "app=web", 4);
    client.says("scale deployment/web --replicas=3", &["scaled"]);
    let _ = client.stack.ready_pods("demo", "app=web", 3);
    client.says("set env deployment/web ROUND=two", &["env updated"]);
    client.says("rollout status deployment/web --timeout=90s", &["successfully rolled out"]);
    client.says("rollout history deployment/web", &["REVISION"]);
    client.says("rollout undo deployment/web", &["rolled back"]);
    client.says("rollout status deployment/web --timeout=90s", &["successfully rolled out"]);
    let spec = client.ok("get deployment web -o jsonpath={.spec.template.spec.containers[0].env}");
    assert!(!spec.contains("ROUND"), "{spec}");
    client.says("label deployment web tier=front --overwrite", &["labeled"]);
    client.says("annotate deployment web note=x --overwrite", &["annotated"]);
    client
        .says(r#"patch deployment web --type=json -p [{"op":"remove","path":"/metadata/labels/tier"}]"#, &["patched"]);
    client.says(r#"patch deployment web --type=merge -p {"metadata":{"annotations":{"note":null}}}"#, &["patched"]);
    let again = client.sh("apply -f -").stdin(DEMO).run();
    assert!(again.ok().contains("deployment.apps/web"), "{again}");
    client.says("create configmap extra --from-literal=a=b", &["created"]);
    client.says("get configmap extra -o jsonpath={.data.a}", &["b"]);
    client.says("delete configmap extra", &["deleted"]);
}

/// `get -w` prints changes as they come.
fn watching(client: &Client<'_>) {
    let mut child = client.sh("get pods -w --no-headers -l app=web").spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let _ = lines.next().expect("the list first").expect("text");
    }
    let _ = client.ok("scale deployment/web --replicas=4");
    let line = lines.next().expect("a change").expect("text");
    assert!(line.contains("web-"), "{line}");
    child.kill().unwrap();
    let _ = child.wait();
}

fn deleting(client: &Client<'_>) {
    client.says("delete service web --wait", &["deleted"]);
    client.says("delete deployment web --wait", &["deleted"]);
    eventually("no Pods", || {
        let left = client.ok("get pods -o name");
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
    let out = client.stack.kubectl(&["delete", "namespace", "demo", "--timeout=60s"]);
    assert!(out.ok().contains("deleted"), "{out}");
    let gone = client.stack.kubectl(&["get", "namespace", "demo"]);
    assert!(gone.err().contains("NotFound"), "{gone}");
}
