use super::*;
use crate::tasks::Tasks;

const SOON: Duration = Duration::from_secs(60);

fn share(name: &str, path: &Path, writable: bool) -> Share {
    Share { name: name.into(), path: path.to_owned(), writable }
}

fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().expect("a folder");
    let path = place.path().canonicalize().expect("there");
    (place, path)
}

#[test]
fn folders_and_modes_are_those_of_the_settings() {
    let list = vec![
        share("data", Path::new("/srv/data"), false),
        share("out", Path::new("/srv/out"), true),
    ];
    let shares = Shares::new(list, Board::of("node", 2, 1 << 30, false));
    let mounts = shares.mounts(&wanted(&[("out", "/o"), ("data", "/d")])).expect("both are there");
    let seen: Vec<_> = mounts
        .iter()
        .map(|mount| (mount.source.to_str(), mount.target.as_str(), mount.writable))
        .collect();
    assert_eq!(seen, [(Some("/srv/data"), "/d", false), (Some("/srv/out"), "/o", true)]);
    assert_eq!(
        shares.mounts(&wanted(&[("other", "/o")])),
        Err(SharesError::Unknown("other".into()))
    );
    assert!(matches!(shares.mounts(&wanted(&[("data", "/proc")])), Err(SharesError::Wrong(_))));
}

#[tokio::test]
async fn a_share_whose_folder_goes_is_told_as_absent_and_its_claims_wait_until_it_is_back() {
    let (_place, path) = place();
    let board = Board::of("node", 2, 1 << 30, false);
    let mut status = board.watch();
    let shares = Shares::new(vec![share("data", &path.join("data"), false)], board);
    assert!(status.borrow_and_update().shares[0].there);
    let tasks = Tasks::new();
    tasks.spawn(shares.clone().watch(tasks.token()));
    let absent = status.wait_for(|status| !status.shares[0].there);
    tokio::time::timeout(SOON, absent).await.expect("in time").expect("a status");
    let (waiting, mut why) = watch::channel(None::<String>);
    let wants = wanted(&[("data", "/data")]);
    let comes_back = async {
        let said = why.wait_for(|why| why.as_deref().is_some_and(|why| why.contains("share data")));
        said.await.expect("the claim goes on");
        std::fs::create_dir(path.join("data")).expect("made");
    };
    let both = async { tokio::join!(shares.ready(&wants, &waiting), comes_back) };
    let (mounts, ()) = tokio::time::timeout(SOON, both).await.expect("in time");
    assert_eq!(mounts.expect("mounts")[0].target, "/data");
    assert!(status.borrow().shares[0].there);
    tasks.stop();
}

#[test]
fn a_share_that_reaches_the_engines_folder_is_found() {
    let (_place, path) = place();
    let shares =
        Shares::new(vec![share("all", &path, false)], Board::of("node", 2, 1 << 30, false));
    assert!(shares.reaching(&Taken::folder(&path.join("engine"))).is_some());
    assert!(shares.reaching(&Taken::folder(Path::new("/nowhere"))).is_none());
}
