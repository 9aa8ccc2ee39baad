//! The main job: a Deployment behind a Service, from `kubectl apply` to answered requests.

use std::collections::BTreeSet;

use orlop_tests::{Stack, eventually, ready_or_skip};

use crate::DEMO;

/// All the names that `ask` gets to hear, until they are `count`.
fn names_heard(what: &str, count: usize, mut ask: impl FnMut() -> orlop_tests::Output) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    eventually(what, || {
        let out = ask();
        if out.success() {
            names.insert(out.stdout.trim().to_owned());
        }
        if names.len() == count { Ok(()) } else { Err(format!("heard {names:?}, last: {out}")) }
    });
    names
}

#[test]
fn a_deployment_behind_a_service() {
    let Some(()) = ready_or_skip("a_deployment_behind_a_service") else { return };
    let stack = Stack::up();
    stack.apply(DEMO);
    let pods = stack.ready_pods("demo", "app=web", 3);
    let expected: BTreeSet<String> = pods.iter().map(|p| p["metadata"]["name"].as_str().unwrap().to_owned()).collect();

    let service = stack.get(&["service", "web", "-n", "demo"]);
    let cluster_ip = service["spec"]["clusterIP"].as_str().expect("a clusterIP").to_owned();
    let url = format!("http://{cluster_ip}/");

    let from_host =
        names_heard("all three Pods, from the node", 3, || stack.on_node(&["curl", "-s", "-m", "2", &url]).run());
    assert_eq!(from_host, expected);

    let first = pods[0]["metadata"]["name"].as_str().unwrap();
    let from_pod = names_heard("all three Pods, from a Pod", 3, || {
        stack.kubectl(&["exec", "-n", "demo", first, "--", "wget", "-qO-", "-T", "2", &url])
    });
    assert_eq!(from_pod, expected);

    let node_port = format!("http://{}:30080/", stack.namespaces.node_ip());
    let from_outside = names_heard("all three Pods, through the NodePort from another namespace", 3, || {
        stack.outside(&["curl", "-s", "-m", "2", &node_port]).run()
    });
    assert_eq!(from_outside, expected);

    // The ConfigMap arrives both ways.
    let greeting = stack.on_node(&["curl", "-s", "-m", "2", &format!("{url}greeting")]).run();
    assert_eq!(greeting.ok().trim(), "hello from orlop");
    let motd = stack.on_node(&["curl", "-s", "-m", "2", &format!("{url}motd")]).run();
    assert!(motd.ok().contains("lowest deck"), "{motd}");

    // Without endpoints the answer is a refusal at once, and the address never leaves the node.
    let _ = stack.kubectl(&["scale", "-n", "demo", "deployment/web", "--replicas=0"]).ok();
    eventually("refused connections", || {
        let out = stack.on_node(&["curl", "-s", "-m", "5", &url]).run();
        // 7: "failed to connect"; a time-out would be 28.
        if out.code == 7 { Ok(()) } else { Err(out.to_string()) }
    });
    let stray = stack.outside(&["ip", "route", "get", &cluster_ip]).run();
    assert!(!stray.success(), "the client's namespace has a route to Services: {stray}");
}

#[test]
fn services_are_unreachable_where_nothing_answers_them() {
    let Some(()) = ready_or_skip("services_are_unreachable_where_nothing_answers_them") else { return };
    let stack = Stack::up();
    let route = stack.on_node(&["ip", "route", "show", "type", "unreachable"]).run();
    assert!(route.ok().contains("10.96.0.0/16"), "{route}");
    let out = stack.on_node(&["curl", "-s", "-m", "5", "http://10.96.77.77/"]).run();
    assert_eq!(out.code, 7, "an address of no Service must fail at once: {out}");
}

#[test]
fn two_instances_do_not_meet() {
    let Some(()) = ready_or_skip("two_instances_do_not_meet") else { return };
    let stacks = [Stack::up(), Stack::up()];
    let mut own: Vec<BTreeSet<String>> = Vec::new();
    for stack in &stacks {
        stack.apply(DEMO);
        let pods = stack.ready_pods("demo", "app=web", 3);
        own.push(pods.iter().map(|p| p["metadata"]["name"].as_str().unwrap().to_owned()).collect());
    }
    // The same NodePort and the same networks on both: each hears its own Pods only.
    for (stack, own) in stacks.iter().zip(&own) {
        let url = format!("http://{}:30080/", stack.namespaces.node_ip());
        let heard = names_heard("all three own Pods", 3, || stack.outside(&["curl", "-s", "-m", "2", &url]).run());
        assert_eq!(&heard, own);
        let service = stack.get(&["service", "web", "-n", "demo"]);
        let url = format!("http://{}/", service["spec"]["clusterIP"].as_str().unwrap());
        let heard = names_heard("all three own Pods", 3, || stack.on_node(&["curl", "-s", "-m", "2", &url]).run());
        assert_eq!(&heard, own);
    }
    // One of them goes; the other does not notice.
    let [first, second] = stacks;
    drop(first);
    let url = format!("http://{}:30080/", second.namespaces.node_ip());
    assert!(second.outside(&["curl", "-s", "-m", "2", &url]).run().success());
    assert!(second.kubectl(&["get", "nodes"]).success());
}
