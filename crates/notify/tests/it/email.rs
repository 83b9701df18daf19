//! E-mails, against Debian's aiosmtpd.

use std::path::Path;

use corten_notify::carry::{Address, Carry as _, Post};
use corten_notify::kind::Security;
use corten_stdx::error::Chain;

use crate::letter;
use crate::mailbox::Mailbox;

fn address(port: u16, security: Security, authorities_pem: &str, password: Option<&str>) -> Address {
    Address::Email {
        host: "localhost".into(),
        port,
        security,
        from: "corten@example.org".into(),
        to: vec!["ops@example.com".into(), "night@example.com".into()],
        credentials: password.map(|password| ("corten".to_owned(), password.to_owned())),
        authorities_pem: authorities_pem.into(),
    }
}

async fn refusal(address: &Address) -> String {
    Chain(&Post.carry(address, &letter()).await.expect_err("refused")).to_string()
}

#[tokio::test]
async fn a_plain_server_takes_it() {
    let mut mailbox = Mailbox::start(&[]);
    Post.carry(&address(mailbox.port, Security::None, "", None), &letter()).await.expect("taken");
    let mail = mailbox.next();
    assert_eq!(mail.str_at(&["from"]), "corten@example.org");
    let data = mail.str_at(&["data"]);
    assert!(data.contains("Subject: [corten] wrong: deployment/web in shop (CrashLoop)\r\n"), "{data}");
    assert!(data.contains("its container app keeps dying: exit code 3"), "{data}");
    // A server without STARTTLS gets nothing from whoever insists on it.
    let refused = refusal(&address(mailbox.port, Security::StartTls, "", None)).await;
    assert!(refused.contains("STARTTLS"), "{refused}");
}

/// A certificate for `localhost` and its key, in files; gives the certificate.
fn certificate(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(dir.join("key"), made.signing_key.serialize_pem()).expect("written");
    std::fs::write(dir.join("certificate"), made.cert.pem()).expect("written");
    made.cert.pem()
}

#[tokio::test]
async fn a_server_with_tls_and_a_password_takes_it_and_refuses_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = certificate(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, key) = (path("certificate"), path("key"));
    let mut mailbox =
        Mailbox::start(&["--certificate", &certificate, "--key", &key, "--user", "corten", "--password", "right"]);
    let of = |authority: &str, password| address(mailbox.port, Security::StartTls, authority, password);
    let refused = refusal(&of(&authority, Some("wrong"))).await;
    assert!(refused.contains("535"), "{refused}");
    assert!(!refused.contains("wrong"), "a password is never shown: {refused}");
    let refused = refusal(&of("", Some("right"))).await;
    assert!(refused.contains("certificate"), "{refused}");
    Post.carry(&of(&authority, Some("right")), &letter()).await.expect("taken");
    assert!(mailbox.next().str_at(&["data"]).contains("Message-ID: <uid-1@example.org>"));
}

#[tokio::test]
async fn a_server_that_is_away_is_said() {
    let port = Mailbox::start(&[]).port;
    let refused = refusal(&address(port, Security::None, "", None)).await;
    assert!(refused.starts_with("the mail server does not take it: "), "{refused}");
}
