//! The names of fields that the proxy itself reads, sets or removes. Every other field passes through.

/// A field's name, as far as the proxy cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    KeepAlive,
    Location,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    Other,
}

const KNOWN: [(&str, Name); 20] = [
    ("connection", Name::Connection),
    ("content-length", Name::ContentLength),
    ("date", Name::Date),
    ("expect", Name::Expect),
    ("forwarded", Name::Forwarded),
    ("host", Name::Host),
    ("keep-alive", Name::KeepAlive),
    ("location", Name::Location),
    ("proxy-authenticate", Name::ProxyAuthenticate),
    ("proxy-authorization", Name::ProxyAuthorization),
    ("proxy-connection", Name::ProxyConnection),
    ("te", Name::Te),
    ("trailer", Name::Trailer),
    ("transfer-encoding", Name::TransferEncoding),
    ("upgrade", Name::Upgrade),
    ("x-forwarded-for", Name::XForwardedFor),
    ("x-forwarded-host", Name::XForwardedHost),
    ("x-forwarded-port", Name::XForwardedPort),
    ("x-forwarded-proto", Name::XForwardedProto),
    ("x-real-ip", Name::XRealIp),
];

impl Name {
    pub fn of(name: &[u8]) -> Self {
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        // Most fields end here: few known names share a first letter.
        let same = |known: &&(&str, Self)| {
            let text = known.0.as_bytes();
            text[0] == first && text.len() == name.len() && text.eq_ignore_ascii_case(name)
        };
        KNOWN.iter().find(same).map_or(Self::Other, |known| known.1)
    }

    /// For one connection alone: never passed on, whatever Connection says (RFC 9110, 7.6.1).
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Tells the server who asked. The proxy says so itself; what a client says is not believed.
    pub const fn is_about_client(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XRealIp
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case() {
        for (text, name) in KNOWN {
            assert_eq!(Name::of(text.as_bytes()), name);
            assert_eq!(Name::of(text.to_uppercase().as_bytes()), name);
        }
        for other in ["", "hos", "hosts", "x-host", "user-agent"] {
            assert_eq!(Name::of(other.as_bytes()), Name::Other);
        }
    }
}
