//! One attempt of a probe or hook: exec, HTTP, TCP, gRPC.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use orlop_runtime::RuntimeClient;
use tokio::net::TcpStream;

const MAX_BODY_BYTES: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;
const USER_AGENT: &str = "kube-probe/1.36";

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success(String),
    /// Success with a warning for the user.
    Warning(String),
    Failure(String),
}

/// A port by number or by its name in the container.
#[must_use]
pub fn port_number(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => {
                container.ports.as_deref()?.iter().find(|p| p.name.as_deref() == Some(name.as_str()))?.container_port
            }
        },
    };
    u16::try_from(number).ok().filter(|number| *number > 0)
}

/// A request of an HTTP probe or hook.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    pub https: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// `None` where a named port does not exist.
    #[must_use]
    pub fn new(get: &HTTPGetAction, container: &Container, pod_ip: &str) -> Option<Self> {
        let path = get.path.clone().unwrap_or_default();
        Some(Self {
            https: get.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip).to_owned(),
            port: port_number(&get.port, container)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: get.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn url(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }
}

/// GET; 2xx and 3xx are success, a redirect to another host is success with a warning.
pub async fn http_get(request: &HttpRequest, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, follow(request)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "Get {:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            request.url()
        )),
    }
}

async fn follow(first: &HttpRequest) -> Outcome {
    let mut request = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (status, location, body) = match once(&request).await {
            Ok(answer) => answer,
            Err(message) => return Outcome::Failure(format!("Get {:?}: {message}", request.url())),
        };
        if (300..400).contains(&status)
            && let Some(location) = location
        {
            let Some(next) = redirect(&request, &location) else {
                return Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"));
            };
            if next.host != first.host {
                return Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"));
            }
            request = next;
            continue;
        }
        if (200..400).contains(&status) {
            return Outcome::Success(body);
        }
        return Outcome::Failure(format!("HTTP probe failed with statuscode: {status}"));
    }
    Outcome::Failure(format!("Get {:?}: stopped after {MAX_REDIRECTS} redirects", first.url()))
}

fn redirect(from: &HttpRequest, location: &str) -> Option<HttpRequest> {
    let base = url::Url::parse(&from.url()).ok()?;
    let target = base.join(location).ok()?;
    let path = match target.query() {
        Some(query) => format!("{}?{query}", target.path()),
        None => target.path().to_owned(),
    };
    Some(HttpRequest {
        https: target.scheme() == "https",
        host: target.host_str()?.trim_matches(['[', ']']).to_owned(),
        port: target.port_or_known_default()?,
        path,
        headers: from.headers.clone(),
    })
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: connect: {}", io_text(&error)))?;
    // A probe's connection must leave no TIME_WAIT behind.
    let _ = stream.set_zero_linger();
    Ok(stream)
}

fn io_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

type Answer = (u16, Option<String>, String);

async fn once(request: &HttpRequest) -> Result<Answer, String> {
    let stream = connect(&request.host, request.port).await?;
    if request.https {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(unverified_tls()?));
        let name = rustls_pki_types::ServerName::try_from(request.host.clone()).map_err(|error| error.to_string())?;
        let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        exchange(request, TokioIo::new(stream)).await
    } else {
        exchange(request, TokioIo::new(stream)).await
    }
}

async fn exchange<S>(request: &HttpRequest, stream: S) -> Result<Answer, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let mut builder = http::Request::builder().method("GET").uri(&request.path);
    let has = |name: &str| request.headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name));
    if !has("host") {
        builder = builder.header("Host", request.authority());
    }
    if !has("user-agent") {
        builder = builder.header("User-Agent", USER_AGENT);
    }
    if !has("accept") {
        builder = builder.header("Accept", "*/*");
    }
    for (name, value) in &request.headers {
        // An empty value takes the default header away, as upstream's probes do.
        if !value.is_empty() {
            builder = builder.header(name, value);
        }
    }
    let message =
        builder.header("Connection", "close").body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(message).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let location = response.headers().get("location").and_then(|v| v.to_str().ok()).map(str::to_owned);
        // Beyond the limit the body is cut, which is no failure.
        let mut text = Vec::new();
        let mut body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                text.extend_from_slice(data);
            }
        }
        Ok((status, location, String::from_utf8_lossy(&text).into_owned()))
    };
    tokio::select! {
        answer = answer => answer,
        // The connection drives the exchange; it ends first only where the peer closes at once.
        answer = async { let ended = connection.await; match ended {
            Err(error) => Err(error.to_string()),
            Ok(()) => std::future::pending().await,
        }} => answer,
    }
}

#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        // Probes ask whether something answers, not who: upstream verifies nothing either.
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn unverified_tls() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// A connection is success.
pub async fn tcp_connect(host: &str, port: u16, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, connect(host, port)).await {
        Ok(Ok(_)) => Outcome::Success(String::new()),
        Ok(Err(message)) => Outcome::Failure(message),
        Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// A command that exits 0 is success. `Err` is a failure of the runtime, not of the container.
pub async fn exec(
    runtime: &RuntimeClient,
    container_id: &str,
    command: Vec<String>,
    limit: Duration,
) -> Result<Outcome, String> {
    let shown = command.join(" ");
    let call = runtime.exec_sync(container_id, command, limit);
    // The runtime may take the limit loosely; ours holds.
    match tokio::time::timeout(limit + Duration::from_secs(1), call).await {
        Ok(Ok(answer)) => {
            let mut output = answer.stdout;
            output.extend_from_slice(&answer.stderr);
            output.truncate(MAX_BODY_BYTES);
            let output = String::from_utf8_lossy(&output).into_owned();
            Ok(if answer.exit_code == 0 { Outcome::Success(output) } else { Outcome::Failure(output) })
        }
        Ok(Err(error)) if error.is_deadline() => Ok(Outcome::Failure(timed_out(&shown, limit))),
        Ok(Err(error)) => Err(error.message()),
        Err(_) => Ok(Outcome::Failure(timed_out(&shown, limit))),
    }
}

fn timed_out(command: &str, limit: Duration) -> String {
    format!("command timed out: {command:?} timed out after {}", crate::backoff::go_duration(limit))
}

#[cfg(test)]
#[path = "action_tests.rs"]
mod tests;
