//! Probes against real sockets on the loopback.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

async fn serve(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    });
    (port, task)
}

fn request(port: u16) -> HttpRequest {
    HttpRequest {
        https: false,
        host: "127.0.0.1".into(),
        port,
        path: "/healthz?x=1".into(),
        headers: vec![("X-A".into(), "b".into())],
    }
}

#[tokio::test]
async fn http() {
    let limit = Duration::from_secs(5);
    let (port, task) = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(http_get(&request(port), limit).await, Outcome::Success("ok".into()));
    let seen = task.await.unwrap().to_lowercase();
    assert!(seen.starts_with("get /healthz?x=1 http/1.1\r\n"), "{seen}");
    assert!(seen.contains("user-agent: kube-probe/1.36") && seen.contains("x-a: b"), "{seen}");

    let (port, _task) = serve("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(
        http_get(&request(port), limit).await,
        Outcome::Failure("HTTP probe failed with statuscode: 503".into())
    );

    let (port, _task) = serve("HTTP/1.1 302 X\r\nLocation: http://other.example/\r\nContent-Length: 0\r\n\r\n").await;
    assert!(matches!(http_get(&request(port), limit).await, Outcome::Warning(_)));

    let (port, _task) = serve("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await;
    assert!(matches!(
        http_get(&request(port), Duration::from_millis(200)).await,
        Outcome::Failure(_) | Outcome::Success(_)
    ));
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(tcp_connect("127.0.0.1", port, Duration::from_secs(5)).await, Outcome::Success(String::new()));
    drop(listener);
    let expect = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(tcp_connect("127.0.0.1", port, Duration::from_secs(5)).await, Outcome::Failure(expect.clone()));
    let url = format!("Get \"http://127.0.0.1:{port}/healthz?x=1\": {expect}");
    assert_eq!(http_get(&request(port), Duration::from_secs(5)).await, Outcome::Failure(url));
}
