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

/// Sorted by length, by which most fields are told from all of them.
const KNOWN: [(&str, Name); 20] = [
    ("te", Name::Te),
    ("date", Name::Date),
    ("host", Name::Host),
    ("expect", Name::Expect),
    ("trailer", Name::Trailer),
    ("upgrade", Name::Upgrade),
    ("location", Name::Location),
    ("forwarded", Name::Forwarded),
    ("x-real-ip", Name::XRealIp),
    ("connection", Name::Connection),
    ("keep-alive", Name::KeepAlive),
    ("content-length", Name::ContentLength),
    ("x-forwarded-for", Name::XForwardedFor),
    ("proxy-connection", Name::ProxyConnection),
    ("x-forwarded-host", Name::XForwardedHost),
    ("x-forwarded-port", Name::XForwardedPort),
    ("transfer-encoding", Name::TransferEncoding),
    ("x-forwarded-proto", Name::XForwardedProto),
    ("proxy-authenticate", Name::ProxyAuthenticate),
    ("proxy-authorization", Name::ProxyAuthorization),
];

const LENGTH_MAX: usize = KNOWN[KNOWN.len() - 1].0.len();

/// Where in [`KNOWN`] the names of a length begin, and those of the next one.
const BEGINS: [usize; LENGTH_MAX + 2] = {
    let mut begins = [0; LENGTH_MAX + 2];
    let (mut length, mut at) = (0, 0);
    while length < begins.len() {
        while at < KNOWN.len() && KNOWN[at].0.len() < length {
            at += 1;
        }
        begins[length] = at;
        length += 1;
    }
    begins
};

impl Name {
    pub fn of(name: &[u8]) -> Self {
        if name.len() > LENGTH_MAX {
            return Self::Other;
        }
        // Known names are lower-case letters and dashes. What differs from one in this bit alone differs in case: the dash's
        // counterpart is a carriage return, which no name has.
        let same = |known: &&(&str, Self)| known.0.bytes().zip(name).all(|(known, byte)| known == byte | 0x20);
        let same_length = &KNOWN[BEGINS[name.len()]..BEGINS[name.len() + 1]];
        same_length.iter().find(same).map_or(Self::Other, |known| known.1)
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
        assert!(KNOWN.is_sorted_by_key(|(text, _)| text.len()));
        for other in ["", "hos", "hosts", "x-host", "user-agent", "proxy-authentication", "x-forwarded-hast"] {
            assert_eq!(Name::of(other.as_bytes()), Name::Other);
        }
    }
}
