//! HTTP within TLS. The certificate is that of `tests/tls`.

#![allow(clippy::unwrap_used, missing_docs)] // A test may panic.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use common::{Client, options, source};
use inception_serve::{Error, Server, TlsFiles};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn files() -> TlsFiles {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") }
}

#[test]
fn pictures_within_tls() {
    let mut options = options();
    options.tls = Some(files());
    let server = Server::start(options, vec![source("net", 1)]).unwrap();
    let address = server.http().unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files().certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
    let picture = &common::pictures()[1];
    let head = format!(
        "POST /v1/models/net/classify HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        picture.len()
    );
    stream.write_all(&[head.as_bytes(), picture].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"top\":["), "{answer}");

    // Without TLS there is no answer, but the end of the connection.
    let mut plain = Client::new(address);
    plain.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(plain.read().map_or(true, |reply| reply.status == 400));
    server.stop();
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let TlsFiles { certificate, key } = files();
    for (certificate, key) in [
        (key.clone(), key.clone()),
        (certificate.clone(), certificate.clone()),
        (certificate.clone(), "/nonexistent/key.pem".into()),
        ("/nonexistent/certificate.pem".into(), key),
    ] {
        let mut options = options();
        options.tls = Some(TlsFiles { certificate, key });
        let error = Server::start(options, vec![source("net", 1)]).map(drop).unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error}");
    }
}
