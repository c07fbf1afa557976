use rcgen::{CertificateParams, KeyPair};

use super::*;

fn opened() -> (tempfile::TempDir, Authority) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::open(folder.path()).expect("made");
    (folder, authority)
}

#[test]
fn the_authority_is_made_once_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, first) = opened();
    let again = Authority::open(folder.path()).expect("opened");
    assert_eq!(first.pin(), again.pin());
    assert_eq!(first.pin().len(), 64);
    let key = std::fs::metadata(folder.path().join("ca.key")).expect("a key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_hosts_certificate_has_the_name_we_gave_and_the_key_it_made() {
    let (_folder, authority) = opened();
    let key = KeyPair::generate().expect("a key");
    let mut asked = CertificateParams::new(vec!["gateway".to_owned()]).expect("a name");
    asked.distinguished_name.push(rcgen::DnType::CommonName, "another-host");
    let request = asked.serialize_request(&key).expect("a request").pem().expect("PEM");
    let (pem, known) = authority.host(&request, "rack-7", Duration::from_secs(60)).expect("signed");
    assert_eq!(known.host, "rack-7");
    assert!(pem.contains("BEGIN CERTIFICATE"));
    let (again, same) =
        authority.host(&request, "rack-7", Duration::from_secs(60)).expect("signed");
    assert_ne!(pem, again);
    assert_eq!(known, same);
    assert!(authority.host("nonsense", "rack-7", Duration::from_secs(60)).is_err());
}

#[test]
fn the_operators_certificate_is_read_anew_and_a_broken_file_leaves_the_last_one() {
    let (folder, authority) = opened();
    let (chain, key) = (folder.path().join("own.pem"), folder.path().join("own.key"));
    let own = KeyPair::generate().expect("a key");
    let signed = CertificateParams::new(vec!["gateway.example".to_owned()]).expect("a name");
    let signed = signed.self_signed(&own).expect("signed");
    std::fs::write(&chain, signed.pem()).expect("written");
    std::fs::write(&key, own.serialize_pem()).expect("written");
    let latest = Latest::new(Source::Own { chain: chain.clone(), key }).expect("read");
    assert!(!latest.is_made());
    latest.renew().expect("read again");
    std::fs::write(&chain, "broken").expect("written");
    assert!(latest.renew().is_err());
    drop(authority);
}
