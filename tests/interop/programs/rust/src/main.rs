// A client and a server over rustls. Arguments are words key=value, see tests/interop/peers/own.py; and early=1.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{ring, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, CommonState, HandshakeKind, NamedGroup, RootCertStore, ServerConfig, ServerConnection};

const TIMEOUT: Duration = Duration::from_secs(20);
const HELLO: &[u8] = b"pellucid interop: hello\n";
const EARLY_DATA: u32 = 16_384;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Words {
    values: HashMap<String, String>,
    turns: Vec<String>,
}

impl Words {
    fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    fn list(&self, key: &str) -> Vec<&str> {
        self.get(key).split(',').filter(|word| !word.is_empty()).collect()
    }
}

fn main() -> Outcome<()> {
    let mut words = Words { values: HashMap::new(), turns: Vec::new() };
    for word in std::env::args().skip(1) {
        let (key, value) = word.split_once('=').ok_or("a word is key=value")?;
        if key == "turn" {
            words.turns.push(value.to_string());
        }
        words.values.insert(key.to_string(), value.to_string());
    }
    if words.get("role") == "server" {
        serve(&words)
    } else {
        connect(&words)
    }
}

// ---- configuration ----

fn provider(words: &Words) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    let suites = words.list("suites");
    if !suites.is_empty() {
        provider.cipher_suites.retain(|suite| suites.contains(&suite_name(*suite).as_str()));
    }
    let groups = words.list("groups");
    if !groups.is_empty() {
        let all = std::mem::take(&mut provider.kx_groups);
        provider.kx_groups =
            groups.iter().filter_map(|name| all.iter().find(|group| group_name(group.name()) == *name).copied()).collect();
    }
    Arc::new(provider)
}

fn suite_name(suite: rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn group_name(group: NamedGroup) -> String {
    match group {
        NamedGroup::X25519 => "x25519".to_string(),
        other => format!("{other:?}"),
    }
}

fn roots(words: &Words) -> Outcome<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(words.get("ca"))?)?;
    Ok(roots)
}

fn credential(words: &Words) -> Outcome<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(words.get("certificate"))?.collect::<Result<Vec<_>, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(words.get("key"))?))
}

fn protocols(words: &Words) -> Vec<Vec<u8>> {
    words.list("alpn").iter().map(|name| name.as_bytes().to_vec()).collect()
}

fn print_facts(state: &CommonState, early_data: bool) {
    if let Some(suite) = state.negotiated_cipher_suite() {
        println!("suite={}", suite_name(suite));
    }
    if let Some(group) = state.negotiated_key_exchange_group() {
        println!("group={}", group_name(group.name()));
    }
    println!("alpn={}", state.alpn_protocol().map_or(String::new(), |name| String::from_utf8_lossy(name).into_owned()));
    let full = matches!(state.handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
    println!("resumed={}", u8::from(!full));
    println!("early_data={}", u8::from(early_data));
}

// ---- server ----

fn serve(words: &Words) -> Outcome<()> {
    let builder = ServerConfig::builder_with_provider(provider(words)).with_protocol_versions(&[&TLS13])?;
    let builder = match words.get("client_authentication") {
        "none" => builder.with_no_client_auth(),
        mode => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(words)?), provider(words));
            let verifier = if mode == "optional" { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let (chain, key) = credential(words)?;
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = protocols(words);
    if words.get("early") == "1" {
        config.max_early_data_size = EARLY_DATA;
    }
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("port={}", listener.local_addr()?.port());
    for socket in listener.incoming() {
        let (socket, config) = (socket?, config.clone());
        thread::spawn(move || {
            if let Err(error) = serve_one(socket, config) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn serve_one(mut socket: TcpStream, config: Arc<ServerConfig>) -> Outcome<()> {
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut connection = ServerConnection::new(config)?;
    let mut said = Vec::new();
    while connection.is_handshaking() {
        step(&mut connection, &mut socket)?;
        if let Some(mut early) = connection.early_data() {
            early.read_to_end(&mut said)?;
        }
    }
    print_facts(&connection, !said.is_empty());
    println!("client_certificate={}", u8::from(connection.peer_certificates().is_some()));
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    loop {
        while message(&said).is_none() {
            if receive(&mut stream, &mut said)? == 0 {
                return Ok(());
            }
        }
        let (head, body, size) = message(&said).ok_or("no request")?;
        let content = if head.starts_with("POST") { body } else { HELLO.to_vec() };
        said.drain(..size);
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len())?;
        stream.write_all(&content)?;
        if head.to_lowercase().contains("\nconnection: close") {
            stream.conn.send_close_notify();
            stream.flush()?;
            return Ok(());
        }
    }
}

/// Write what is due, else read once; what is wrong is answered with an alert.
fn step(connection: &mut ServerConnection, socket: &mut TcpStream) -> Outcome<()> {
    if connection.wants_write() {
        connection.write_tls(socket)?;
        return Ok(());
    }
    if connection.read_tls(socket)? == 0 {
        return Err("the client went away during the handshake".into());
    }
    if let Err(error) = connection.process_new_packets() {
        let _ = connection.write_tls(socket);
        return Err(error.into());
    }
    while connection.wants_write() {
        connection.write_tls(socket)?;
    }
    Ok(())
}

// ---- client ----

/// Sessions, but no memory of the group that was taken: the next ClientHello is to be answered with a retry again.
#[derive(Debug)]
struct Sessions(ClientSessionMemoryCache);

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(name, value);
    }
    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(name)
    }
}

fn connect(words: &Words) -> Outcome<()> {
    let builder = ClientConfig::builder_with_provider(provider(words))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(words)?);
    let mut config = if words.get("certificate").is_empty() {
        builder.with_no_client_auth()
    } else {
        let (chain, key) = credential(words)?;
        builder.with_client_auth_cert(chain, key)?
    };
    config.alpn_protocols = protocols(words);
    config.enable_early_data = words.get("early") == "1";
    config.resumption = Resumption::store(Arc::new(Sessions(ClientSessionMemoryCache::new(8))));
    let config = Arc::new(config);
    for _ in 0..words.get("connections").parse::<usize>()? {
        connect_once(words, config.clone())?;
    }
    Ok(())
}

fn connect_once(words: &Words, config: Arc<ClientConfig>) -> Outcome<()> {
    let mut socket = TcpStream::connect(format!("127.0.0.1:{}", words.get("port")))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut connection = ClientConnection::new(config, ServerName::try_from(words.get("name").to_string())?)?;
    let mut buffer = Vec::new();
    let mut accepted = false;
    for (number, turn) in words.turns.iter().enumerate() {
        let (path, size) = turn.rsplit_once(':').ok_or("a turn is file:size")?;
        let send = fs::read(path)?;
        if number == 0 {
            let early = connection.early_data().map(|mut early| early.write_all(&send)).transpose()?.is_some();
            while connection.is_handshaking() {
                connection.complete_io(&mut socket)?;
            }
            accepted = early && connection.is_early_data_accepted();
        }
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        if number > 0 || !accepted {
            stream.write_all(&send)?;
        }
        let answer = loop {
            if size != "http" {
                let count = size.parse::<usize>()?;
                if buffer.len() >= count {
                    break buffer.drain(..count).collect();
                }
            } else if let Some((_, body, taken)) = message(&buffer) {
                buffer.drain(..taken);
                break body;
            }
            if receive(&mut stream, &mut buffer)? == 0 {
                return Err("the server ended the stream in the middle of an answer".into());
            }
        };
        fs::write(format!("{path}.answer"), answer)?;
    }
    print_facts(&connection, accepted);
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut socket)?;
    }
    Ok(())
}

// ---- a little HTTP ----

fn receive(stream: &mut impl Read, into: &mut Vec<u8>) -> Outcome<usize> {
    let mut chunk = [0; 16_384];
    let count = stream.read(&mut chunk)?;
    into.extend_from_slice(&chunk[..count]);
    Ok(count)
}

/// Return the head, the body and the size of the message that *data* begins with, once it is whole.
fn message(data: &[u8]) -> Option<(String, Vec<u8>, usize)> {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&data[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, value)| value.trim().parse().ok())?;
    let body = data.get(end..end + length)?.to_vec();
    Some((head, body, end + length))
}
