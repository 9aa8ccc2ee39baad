//! Clients and servers. A worker is a process of its own (control groups hold processes) that makes
//! connections on command; servers are threads.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::net::Ns;

const PATIENCE: Duration = Duration::from_secs(3);

/// A process in a network namespace and a control group.
pub(crate) struct Worker {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(ns: &Ns, cgroup: &Path) -> Result<Self> {
        let mut process = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", ns.pid()))
            .arg(std::env::current_exe()?)
            .arg("worker")
            .arg(cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let commands = process.stdin.take().context("a piped stdin")?;
        let answers = BufReader::new(process.stdout.take().context("a piped stdout")?);
        Ok(Self { process, commands, answers })
    }

    /// `tcp`, `udp` (connected), `sendto` (unconnected), `hold` (TCP, kept), `use` (the kept one): an address;
    /// the answer is `ok NAME PEER-AS-SEEN` or `err WHY`.
    pub(crate) fn ask(&mut self, command: &str, address: &str) -> Result<String> {
        writeln!(self.commands, "{command} {address}")?;
        self.commands.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The worker's own main.
pub(crate) fn worker_main(cgroup: &Path) -> Result<()> {
    std::fs::write(cgroup.join("cgroup.procs"), "0").context("entering the control group")?;
    let mut kept = None;
    let mut output = std::io::stdout();
    for line in std::io::stdin().lines() {
        let line = line?;
        let (command, address) = line.split_once(' ').context("a command and an address")?;
        let answer = match act(command, address, &mut kept) {
            Ok(answer) => format!("ok {answer}"),
            Err(error) => format!("err {error:#}"),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn act(command: &str, address: &str, kept: &mut Option<TcpStream>) -> Result<String> {
    let to: SocketAddr = address.parse()?;
    match command {
        "tcp" => talk(&mut connect(to)?),
        "hold" => talk(kept.insert(connect(to)?)),
        "use" => talk(kept.as_mut().context("nothing is held")?),
        "udp" => {
            let socket = udp(to)?;
            socket.connect(to)?;
            socket.send(b"hello")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(format!("{} {}", String::from_utf8_lossy(&buffer[..length]), socket.peer_addr()?))
        }
        "sendto" => {
            let socket = udp(to)?;
            socket.send_to(b"hello", to)?;
            let mut buffer = [0; 64];
            let (length, from) = socket.recv_from(&mut buffer)?;
            Ok(format!("{} {from}", String::from_utf8_lossy(&buffer[..length])))
        }
        // Connect latency: the median of so many connects, in nanoseconds.
        "time" => {
            let mut times: Vec<u128> = Vec::new();
            for _ in 0..2_000 {
                let start = std::time::Instant::now();
                let mut stream = TcpStream::connect(to)?;
                times.push(start.elapsed().as_nanos());
                // So that the server's queue doesn't run over.
                talk(&mut stream)?;
            }
            times.sort_unstable();
            Ok(format!("{} {to}", times[times.len() / 2]))
        }
        other => anyhow::bail!("unknown command {other}"),
    }
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn udp(to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn talk(stream: &mut TcpStream) -> Result<String> {
    stream.write_all(b"hello\n")?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    anyhow::ensure!(length > 0, "closed by the server");
    Ok(format!("{} {}", String::from_utf8_lossy(&answer[..length]), stream.peer_addr()?))
}

/// Answers on TCP and UDP with `NAME/CLIENT-ADDRESS`, until the process ends.
pub(crate) fn serve(ns: &Ns, name: &'static str, address: &str) -> Result<()> {
    let address: SocketAddr = address.parse()?;
    let (listener, socket) = ns.run(|| Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?)))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let Ok(peer) = stream.peer_addr() else { return };
                let Ok(reader) = stream.try_clone() else { return };
                let mut stream = stream;
                for line in BufReader::new(reader).lines() {
                    if line.is_err() || stream.write_all(format!("{name}/{}", peer.ip()).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(format!("{name}/{}", peer.ip()).as_bytes(), peer));
        }
    });
    Ok(())
}
