use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::index::{Begun as Decided, Index};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn config() -> BlobsConfig {
    BlobsConfig { largest: 100 << 20, limit: 200 << 20, keep: 24 * HOUR }
}

fn key(owner: &str, content: &[u8]) -> Key {
    let id = BlobId::parse(&hex::encode(Sha256::digest(content))).expect("a hash");
    Key { owner: owner.into(), id }
}

async fn put(blobs: &Blobs, key: &Key, content: &[u8], until: usize) -> Result<Look, BlobError> {
    let Look::Partial { have } = blobs.look(key) else { panic!("whole already") };
    let begun = blobs.put(key.clone(), have, content.len() as u64).await?;
    let Begun::Upload(mut upload) = begun else { panic!("whole already") };
    upload.push(Bytes::copy_from_slice(&content[have as usize..until])).await?;
    upload.finish().await
}

async fn get(blobs: &Blobs, key: &Key, from: u64) -> Result<Vec<u8>, BlobError> {
    let mut download = blobs.read(key, from)?;
    let mut content = Vec::new();
    while let Some(bytes) = download.next().await {
        let bytes = bytes?;
        assert!(bytes.len() <= 64 << 10, "a slow reader would hold {} bytes", bytes.len());
        content.extend_from_slice(&bytes);
    }
    Ok(content)
}

fn large() -> Vec<u8> {
    (0..2 * PART + 12345).map(|n| (n * 7 + n / 1000) as u8).collect()
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_where_it_was_even_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let content = large();
    let key = key("ann", &content);
    let open = async || Blobs::open(folder.path(), config(), &Tasks::new()).await.expect("opens");
    let first = put(&open().await, &key, &content, PART + 17).await.expect("room");
    assert_eq!(first, Look::Partial { have: PART as u64 + 17 });
    let blobs = open().await;
    let last = put(&blobs, &key, &content, content.len()).await.expect("room");
    assert_eq!(last, Look::Whole { size: content.len() as u64 });
    for blobs in [blobs, open().await] {
        assert!(get(&blobs, &key, 0).await.expect("whole") == content);
        let from = PART as u64 + 3;
        assert!(get(&blobs, &key, from).await.expect("whole") == content[from as usize..]);
        assert_eq!(blobs.totals(), (1, content.len() as u64));
    }
}

#[tokio::test]
async fn an_upload_that_goes_on_reads_nothing_again_that_was_hashed() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path(), config(), &Tasks::new()).await.expect("opens");
    let content = large();
    let key = key("ann", &content);
    put(&blobs, &key, &content, PART).await.expect("room");
    let object = folder.path().join("of-ann").join(key.id.as_str()).join(format!("{:016x}", 0));
    let aside = folder.path().join("aside");
    std::fs::rename(&object, &aside).expect("it is there");
    // Broken off within a part: what is not stored is in no hash either.
    let begun = blobs.put(key.clone(), PART as u64, content.len() as u64).await.expect("room");
    let Begun::Upload(mut upload) = begun else { panic!("whole already") };
    upload.push(Bytes::copy_from_slice(&content[PART..2 * PART + 3])).await.expect("room");
    drop(upload);
    assert_eq!(blobs.look(&key), Look::Partial { have: 2 * PART as u64 });
    let last = put(&blobs, &key, &content, content.len()).await.expect("room");
    assert_eq!(last, Look::Whole { size: content.len() as u64 });
    std::fs::rename(&aside, &object).expect("ours");
    assert!(get(&blobs, &key, 0).await.expect("whole") == content);
}

#[tokio::test]
async fn what_somebody_else_put_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path(), config(), &Tasks::new()).await.expect("opens");
    put(&blobs, &key("ann", b"secret"), b"secret", 6).await.expect("room");
    let bobs = key("bob", b"secret");
    assert_eq!(blobs.look(&bobs), Look::Partial { have: 0 });
    assert!(matches!(blobs.read(&bobs, 0), Err(BlobError::Unknown(_))));
    assert!(matches!(blobs.remove(&bobs).await, Err(BlobError::Unknown(_))));
    put(&blobs, &bobs, b"secret", 6).await.expect("whoever has the bytes may put them");
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_name_leave_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path(), config(), &Tasks::new()).await.expect("opens");
    let key = key("ann", b"right");
    for wrong in [&b"wrong"[..], b"right and more"] {
        let begun = blobs.put(key.clone(), 0, 5).await.expect("room");
        let Begun::Upload(mut upload) = begun else { panic!("whole already") };
        let pushed = upload.push(Bytes::copy_from_slice(wrong)).await;
        let ended = match pushed {
            Ok(()) => upload.finish().await.map(drop),
            Err(error) => Err(error),
        };
        assert!(matches!(ended, Err(BlobError::Mismatch(_))));
        assert_eq!(blobs.totals(), (0, 0));
    }
}

#[tokio::test]
async fn a_flipped_bit_breaks_the_download_off_and_the_blob_can_be_put_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path(), config(), &Tasks::new()).await.expect("opens");
    let content = large();
    let key = key("ann", &content);
    put(&blobs, &key, &content, content.len()).await.expect("room");
    let file = folder.path().join("of-ann").join(key.id.as_str()).join(format!("{:016x}", PART));
    let mut bytes = std::fs::read(&file).expect("an object");
    bytes[99] ^= 1;
    std::fs::write(&file, bytes).expect("writable");
    assert!(matches!(get(&blobs, &key, 0).await, Err(BlobError::Mismatch(_))));
    put(&blobs, &key, &content, content.len()).await.expect("room");
    assert!(get(&blobs, &key, 0).await.expect("whole") == content);
}

#[tokio::test]
async fn one_upload_of_a_blob_runs_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(folder.path(), config(), &Tasks::new()).await.expect("opens");
    let key = key("ann", b"abc");
    let first = blobs.put(key.clone(), 0, 3).await.expect("room");
    assert!(matches!(blobs.put(key.clone(), 0, 3).await, Err(BlobError::Busy(_))));
    drop(first);
    put(&blobs, &key, b"abc", 3).await.expect("its turn");
    assert!(matches!(blobs.put(key, 0, 3).await, Ok(Begun::Whole(3))));
}

fn whole(index: &mut Index, key: &Key, size: u64, now: Instant) {
    let begun = index.begin(key, 0, size, now).expect("room");
    assert_eq!(begun, Decided::Upload { evicted: Vec::new() });
    index.stored(key, size, now);
    index.finished(key, true, now);
}

#[test]
fn a_blob_expires_after_its_last_use_and_never_while_it_is_pinned() {
    let mut index = Index::new(config());
    let start = Instant::now();
    let (used, pinned) = (key("ann", b"used"), key("ann", b"pinned"));
    whole(&mut index, &used, 1, start);
    whole(&mut index, &pinned, 1, start);
    index.pin(std::slice::from_ref(&pinned)).expect("whole");
    index.touch(&used, start + HOUR);
    assert_eq!(index.expired(start + 24 * HOUR), []);
    assert_eq!(index.expired(start + 25 * HOUR), std::slice::from_ref(&used));
    assert_eq!(index.look(&used), Look::Partial { have: 0 });
    index.forget(&used);
    index.unpin(std::slice::from_ref(&pinned), start + 30 * HOUR);
    assert_eq!(index.expired(start + 53 * HOUR), []);
    assert_eq!(index.expired(start + 54 * HOUR), [pinned]);
}

#[test]
fn what_is_too_large_or_does_not_fit_is_refused_before_its_bytes_come() {
    let mut index = Index::new(config());
    let now = Instant::now();
    let refused = index.begin(&key("ann", b"1"), 0, 101 << 20, now);
    assert!(matches!(refused, Err(BlobError::TooLarge { .. })));
    whole(&mut index, &key("ann", b"2"), 100 << 20, now);
    let begun = index.begin(&key("ann", b"3"), 0, 60 << 20, now);
    assert!(begun.is_ok(), "promised room counts from the start");
    let refused = index.begin(&key("ann", b"4"), 0, 60 << 20, now);
    assert!(matches!(refused, Err(BlobError::Full { used, .. }) if used == 160 << 20));
    index.finished(&key("ann", b"3"), false, now);
    index.spoiled(&key("ann", b"3"));
    index.forget(&key("ann", b"3"));
    assert!(index.begin(&key("ann", b"4"), 0, 60 << 20, now).is_ok());
}

#[test]
fn what_hosts_made_for_each_other_makes_room_oldest_first() {
    let mut index = Index::new(config());
    let start = Instant::now();
    let built: Vec<Key> = [b"a", b"b", b"c"].iter().map(|name| key(HOSTS, *name)).collect();
    for (n, key) in built.iter().enumerate() {
        whole(&mut index, key, 50 << 20, start + HOUR * n as u32);
    }
    index.touch(&built[0], start + 9 * HOUR);
    let begun = index.begin(&key("ann", b"1"), 0, 100 << 20, start).expect("room is made");
    assert_eq!(begun, Decided::Upload { evicted: vec![built[1].clone()] });
    assert_eq!(index.used_bytes(), 200 << 20);
    index.pin(&[built[0].clone(), built[2].clone()]).expect("whole");
    let refused = index.begin(&key("ann", b"2"), 0, 1, start);
    assert!(matches!(refused, Err(BlobError::Full { .. })));
}
