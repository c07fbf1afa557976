use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::link::identity::{self, Credential};
use crate::link::{Dial, Source};

const LIMIT: u64 = 1000;

/// How the gateway of a test answers a request: the blob from its `Range` on, as much of it as this says.
type Gives = fn(request: usize) -> Given;

#[derive(Clone, Copy)]
enum Given {
    /// So many bytes, and then the connection closes.
    Bytes(usize),
    /// All of them.
    Rest,
    /// All of them, one changed.
    Damaged,
    Nothing,
    Refused,
}

struct Gateway {
    data: Data,
    requests: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
}

/// A gateway that has the blobs of [`content`], and a cache of [`LIMIT`] bytes.
async fn gateway(gives: Gives) -> Gateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = Arc::new(AtomicUsize::new(0));
    let (tasks, count) = (Tasks::new(), requests.clone());
    let serving = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let given = gives(count.fetch_add(1, Ordering::SeqCst));
            serving.spawn(async move { answer(stream, given).await.expect("answered") });
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let kept = identity::Kept {
        gateway: url,
        pin: None,
        token: Some("token".into()),
        certificate: None,
        key: None,
        renew_unix_s: u64::MAX,
        expires_unix_s: u64::MAX,
    };
    let identity = folder.path().join("identity");
    Credential::of(kept).expect("good").write(&identity).expect("written");
    let dial = Dial::new("host", Source { folder: Some(identity), ..Source::default() });
    let client = Client::new(Arc::new(dial), tasks.clone());
    let data = Data::new(client, folder.path(), LIMIT, tasks);
    Gateway { data, requests, folder }
}

/// What is in the blob whose content begins with this letter.
fn content(letter: u8) -> Vec<u8> {
    (0..400).map(|n: u32| letter.wrapping_add((n / 7) as u8)).collect()
}

fn blob(letter: u8) -> BlobRef {
    BlobRef { id: hex::encode(Sha256::digest(content(letter))), size: 400 }
}

async fn answer(mut stream: TcpStream, given: Given) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.contains("authorization: bearer token") && head.contains("muster-call: c"));
    let letter = (b'a'..=b'z').find(|&letter| head.contains(&blob(letter).id)).expect("known");
    let mut body = content(letter);
    let range = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next());
    let from: usize = range.map_or(0, |from| from.parse().expect("a number"));
    let status = match given {
        Given::Refused => "404 Not Found",
        _ => "200 OK",
    };
    let length = body.len() - from;
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let count = match given {
        Given::Bytes(count) => count.min(length),
        Given::Nothing => return std::future::pending().await,
        Given::Damaged => {
            body[399] ^= 1;
            length
        }
        Given::Rest | Given::Refused => length,
    };
    stream.write_all(&body[from..from + count]).await?;
    stream.shutdown().await
}

async fn get(data: &Data, letter: u8) -> Result<Arc<Kept>, DataError> {
    let blob = blob(letter);
    let getting = data.get("c", &blob, |_| {});
    tokio::time::timeout(Duration::from_secs(20), getting).await.expect("in time")
}

fn names(gateway: &Gateway) -> usize {
    std::fs::read_dir(gateway.folder.path().join("data")).expect("a folder").count()
}

#[tokio::test]
async fn wants_at_the_same_time_share_one_transfer_which_goes_on_where_it_broke_off() {
    let gateway =
        gateway(|request| if request == 0 { Given::Bytes(123) } else { Given::Rest }).await;
    let (first, second) = tokio::join!(get(&gateway.data, b'a'), get(&gateway.data, b'a'));
    let (first, second) = (first.expect("fetched"), second.expect("fetched"));
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(std::fs::read((*first).as_ref()).expect("a file"), content(b'a'));
    assert_eq!(gateway.requests.load(Ordering::SeqCst), 2);
    drop((first, second));
    get(&gateway.data, b'a').await.expect("still there");
    assert_eq!(gateway.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_longest_unused_goes_first_and_never_what_is_held() {
    let gateway = gateway(|_| Given::Rest).await;
    let a = get(&gateway.data, b'a').await.expect("fetched");
    drop(get(&gateway.data, b'b').await.expect("fetched"));
    drop(get(&gateway.data, b'c').await.expect("room is made"));
    assert!((*a).as_ref().exists());
    assert_eq!(names(&gateway), 2);
    let c = get(&gateway.data, b'c').await.expect("still there");
    assert_eq!(gateway.requests.load(Ordering::SeqCst), 3);
    let full = get(&gateway.data, b'd').await.expect_err("all is held");
    assert_eq!(full.to_call_error().code, "no_room_for_data");
    drop((a, c));
    get(&gateway.data, b'd').await.expect("room again");
}

#[tokio::test]
async fn what_an_earlier_agent_left_is_used_unless_a_bit_of_it_has_changed() {
    let gateway = gateway(|_| Given::Rest).await;
    for letter in [b'a', b'b'] {
        drop(get(&gateway.data, letter).await.expect("fetched"));
    }
    let file = gateway.folder.path().join("data").join(blob(b'b').id);
    let mut bytes = content(b'b');
    bytes[7] ^= 4;
    std::fs::remove_file(&file).and_then(|()| std::fs::write(&file, bytes)).expect("written");
    let data = Data::new(gateway.data.client().clone(), gateway.folder.path(), LIMIT, Tasks::new());
    for letter in [b'a', b'b'] {
        let kept = get(&data, letter).await.expect("here, or fetched again");
        assert_eq!(std::fs::read((*kept).as_ref()).expect("a file"), content(letter));
    }
    assert_eq!(gateway.requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_comes_damaged_or_not_at_all_leaves_nothing() {
    let damaged = gateway(|_| Given::Damaged).await;
    let error = get(&damaged.data, b'a').await.expect_err("found out");
    assert!(matches!(error, DataError::Damaged { .. }));
    assert_eq!(names(&damaged), 0);
    let refused = gateway(|_| Given::Refused).await;
    let error = get(&refused.data, b'a').await.expect_err("not there");
    assert_eq!(error.to_call_error().code, "unknown_blob");
    assert_eq!(names(&refused), 0);
}

#[tokio::test]
async fn a_transfer_that_nobody_waits_for_ends() {
    let gateway = gateway(|request| if request == 0 { Given::Nothing } else { Given::Rest }).await;
    let blob = blob(b'a');
    let waited = gateway.data.get("c", &blob, |_| {});
    assert!(tokio::time::timeout(Duration::from_millis(50), waited).await.is_err());
    let ended = async {
        while names(&gateway) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("its file goes");
    get(&gateway.data, b'a').await.expect("fetched by another transfer");
    assert_eq!(gateway.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_an_earlier_agent_kept_is_used_and_what_it_left_half_done_goes() {
    let gateway = gateway(|_| Given::Refused).await;
    let folder = gateway.folder.path().join("data");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(blob(b'a').id), content(b'a')).expect("a file");
    std::fs::write(folder.join("b.part"), b"half").expect("a file");
    let shared = &gateway.data.shared;
    let data = Data::new(shared.client.clone(), gateway.folder.path(), LIMIT, shared.tasks.clone());
    assert_eq!(names(&gateway), 1);
    get(&data, b'a').await.expect("here");
    assert_eq!(gateway.requests.load(Ordering::SeqCst), 0);
}
