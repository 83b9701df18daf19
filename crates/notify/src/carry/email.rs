//! One e-mail, by SMTP.

use corten_apimachinery::value::Str;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address as MailAddress, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::{ATTEMPT_MAX, Address, CarryError};
use crate::kind::Security;
use crate::letter::Letter;

pub(super) async fn send(address: &Address, letter: &Letter) -> Result<(), CarryError> {
    let Address::Email { host, port, security, from, to, credentials, authorities_pem } = address else {
        return Err(CarryError::Setting("it names no mail server".to_owned()));
    };
    let message = message(from, to, letter)?;
    let tls = || parameters(host, authorities_pem);
    let tls = match security {
        Security::StartTls => Tls::Required(tls()?),
        Security::Tls => Tls::Wrapper(tls()?),
        Security::None => Tls::None,
    };
    let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.as_str());
    server = server.port(*port).tls(tls).timeout(Some(ATTEMPT_MAX));
    if let Some((name, password)) = credentials {
        server = server.credentials(Credentials::new(name.clone(), password.clone()));
    }
    server.build().send(message).await?;
    Ok(())
}

fn message(from: &str, to: &[Str], letter: &Letter) -> Result<Message, CarryError> {
    let sender = mailbox(from)?;
    let domain = sender.email.domain().to_owned();
    let mut builder: MessageBuilder = Message::builder().from(sender);
    for one in to {
        builder = builder.to(mailbox(one)?);
    }
    let message = builder
        .subject(format!("[corten] {}", letter.subject()))
        .message_id(Some(format!("<{}@{domain}>", letter.id)))
        .header(ContentType::TEXT_PLAIN)
        .body(letter.text());
    let mut message = message.map_err(|error| CarryError::Setting(format!("no e-mail can be made of it: {error}")))?;
    // No absence notes to a program (RFC 3834).
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
    Ok(message)
}

fn mailbox(text: &str) -> Result<Mailbox, CarryError> {
    let wrong = |error| CarryError::Setting(format!("{text:?} is no e-mail address: {error}"));
    match text.parse::<MailAddress>() {
        Ok(address) => Ok(Mailbox::new(None, address)),
        Err(_) => text.parse::<Mailbox>().map_err(wrong),
    }
}

fn parameters(host: &str, authorities_pem: &str) -> Result<TlsParameters, CarryError> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if !authorities_pem.is_empty() {
        parameters = parameters.add_root_certificate(Certificate::from_pem(authorities_pem.as_bytes())?);
    }
    Ok(parameters.build_rustls()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_what_mail_programs_ask_for() {
        let letter = Letter { id: "u-7".to_owned(), notifier: String::new(), at_ms: 0, news: Vec::new(), omitted: 0 };
        let to = [Str::from("a@example.com"), Str::from("B <b@example.com>")];
        let text =
            String::from_utf8(message("corten@example.org", &to, &letter).expect("made").formatted()).expect("text");
        for part in [
            "From: corten@example.org\r\n",
            "To: a@example.com, B <b@example.com>\r\n",
            "Message-ID: <u-7@example.org>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Date: ",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let wrong = message("nobody", &to, &letter).expect_err("no address").to_string();
        assert!(wrong.starts_with("\"nobody\" is no e-mail address: "), "{wrong}");
    }
}
