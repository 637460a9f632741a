//! Those who mean no good, or no DNS.

use std::net::SocketAddr;
use std::path::Path;

use names::Directory;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use world::World;
use world::os::OsHost;

use super::*;
use crate::{ListenError, Listener};

/// Long enough for a machine under load; a test that passes does not wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> (World, SocketAddr) {
    let world = OsHost::world(tokio::runtime::Handle::current(), Path::new("/nonexistent"));
    let directory = Directory::new();
    directory.replace(Version { instance: 1, number: 1 }, [Arc::new(control("main", "10.0.0.1:7000"))]);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address();
    listener.serve(&world, CELL, directory, || TTL).unwrap();
    (world, address)
}

fn framed() -> Vec<u8> {
    let bytes = question(&format!("store.{CELL}"), RecordType::A).to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Message> {
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer).unwrap())
}

async fn over_tcp(address: SocketAddr) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&framed()).await?;
    read(&mut stream).await
}

#[tokio::test]
async fn who_holds_many_connections_keeps_out_nobody() {
    let (world, address) = start().await;
    let mut held = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Half a length, and then nothing.
        stream.write_all(&[0]).await.unwrap();
        held.push(stream);
    }
    // Well before any of them has been quiet for too long.
    let told = world.timeout(Duration::from_secs(3), over_tcp(address)).await.unwrap().unwrap();
    assert_eq!(told.answers.len(), 1);
    let ended = world.timeout(PATIENCE, held[0].read_u8()).await.unwrap();
    assert!(ended.is_err(), "the oldest made room");
}

#[tokio::test]
async fn a_connection_has_its_questions_and_its_time() {
    let (world, address) = start().await;
    let mut busy = TcpStream::connect(address).await.unwrap();
    let asking = async {
        let mut answers = 0;
        // All at once: they are answered one after the other.
        busy.write_all(&framed().repeat(200)).await.unwrap();
        while read(&mut busy).await.is_ok() {
            answers += 1;
        }
        answers
    };
    assert_eq!(world.timeout(PATIENCE, asking).await.unwrap(), 128);

    let mut quiet = TcpStream::connect(address).await.unwrap();
    quiet.write_all(&framed()[..9]).await.unwrap();
    let begun = world.now();
    assert!(world.timeout(PATIENCE, quiet.read_u8()).await.unwrap().is_err());
    assert!(world.now().since(begun) >= Duration::from_secs(4));
}

#[tokio::test]
async fn garbage_is_dropped_and_the_next_is_answered() {
    let (world, address) = start().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 3, 1, 2, 3], &[0, 0], &[0xff; 70_000]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may be closed before all is sent.
        let _sent = stream.write_all(garbage).await;
        let mut rest = Vec::new();
        let _closed = world.timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(address).await.unwrap();
    for garbage in [&b""[..], b"hello", &[0xff; 60], &[0x80; 9000]] {
        socket.send(garbage).await.unwrap();
    }
    let asked = question(&format!("store.{CELL}"), RecordType::A);
    socket.send(&asked.to_vec().unwrap()).await.unwrap();
    let mut answer = vec![0; 2000];
    let told = async {
        loop {
            let length = socket.recv(&mut answer).await.unwrap();
            if let Ok(told) = Message::from_vec(&answer[..length])
                && told.metadata.id == asked.metadata.id
            {
                return told;
            }
        }
    };
    assert_eq!(world.timeout(PATIENCE, told).await.unwrap().answers.len(), 1);
}

#[tokio::test]
async fn an_address_in_use_and_a_cell_without_a_name_are_refused() {
    let (world, address) = start().await;
    let again = Listener::bind(address).await.err().unwrap();
    assert!(matches!(again, ListenError::Address { address: told, .. } if told == address));
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let nameless = listener.serve(&world, &"x".repeat(64), Directory::new(), || TTL).unwrap_err();
    assert!(matches!(nameless, ListenError::Cell { .. }));
}
