//! The name of a client in its certificate, for the log and the token file. TLS has verified the certificate: this module parses only as
//! much of its structure (DER, RFC 5280) as is needed to find the common name of the subject.

use crate::credential::format_digest;
use ring::digest::{Digest, SHA256, digest};

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// `UTF8String`, `PrintableString`, `TeletexString` and `IA5String`: the texts that can be read as UTF-8.
const TEXT_TAGS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];

/// The start of a name that is a digest.
const DIGEST_PREFIX: &str = "sha256:";

/// The object id of the common name: 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Returns the common name of the subject. If there is none, or it cannot be used, returns the SHA-256 digest of the
/// certificate.
pub(crate) fn read_name(certificate: &[u8]) -> String {
    let format = |digest: Digest| format!("{DIGEST_PREFIX}{}", format_digest(digest.as_ref()));
    find_common_name(certificate).unwrap_or_else(|| format(digest(&SHA256, certificate)))
}

fn find_common_name(certificate: &[u8]) -> Option<String> {
    let mut body = DerReader(DerReader(DerReader(certificate).read_content(SEQUENCE)?).read_content(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.read_content(VERSION)?;
    }
    body.read_content(INTEGER)?;
    // Skips the signature algorithm, the issuer, and the validity.
    for _ in 0..3 {
        body.read_content(SEQUENCE)?;
    }
    let mut subject = DerReader(body.read_content(SEQUENCE)?);
    let mut found = None;
    while !subject.0.is_empty() {
        let mut attributes = DerReader(subject.read_content(SET)?);
        while !attributes.0.is_empty() {
            let mut attribute = DerReader(attributes.read_content(SEQUENCE)?);
            let is_common_name = attribute.read_content(OBJECT_ID)? == COMMON_NAME;
            let (tag, text) = attribute.read_element()?;
            // The last common name is the most specific one.
            if is_common_name && TEXT_TAGS.contains(&tag) {
                found = Some(text);
            }
        }
    }
    // If unreadable bytes were replaced, different certificates would have the same name. A name that looks like a
    // digest would be that of another certificate.
    let name = str::from_utf8(found?).ok()?;
    (!name.is_empty() && !name.starts_with(DIGEST_PREFIX)).then(|| name.to_owned())
}

/// The unread rest of a DER structure.
struct DerReader<'a>(&'a [u8]);

impl<'a> DerReader<'a> {
    /// Reads the next element, which must have this tag, and returns its content.
    fn read_content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.read_element().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Reads the next element, and returns its tag and its content.
    fn read_element(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::read_name;

    fn new_element(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn new_certificate(subject: &[u8]) -> Vec<u8> {
        let nothing = new_element(0x30, &[]);
        let parts = [
            &new_element(0xa0, &[]),
            &new_element(0x02, &[1]),
            &nothing,
            &nothing,
            &nothing,
            &new_element(0x30, subject),
        ];
        new_element(0x30, &new_element(0x30, &parts.map(Vec::as_slice).concat()))
    }

    fn new_attribute(id: &[u8], text: &[u8]) -> Vec<u8> {
        new_element(0x31, &new_element(0x30, &[new_element(0x06, id), new_element(0x0c, text)].concat()))
    }

    #[test]
    fn the_name_is_the_last_common_name_of_the_subject() {
        let organisation = new_attribute(&[0x55, 0x04, 0x0a], b"Example");
        let names = [
            new_attribute(&[0x55, 0x04, 0x03], b"team"),
            new_attribute(&[0x55, 0x04, 0x03], b"ci"),
            organisation.clone(),
        ];
        assert_eq!(read_name(&new_certificate(&names.concat())), "ci");
        assert!(read_name(&new_certificate(&organisation)).starts_with("sha256:"));
    }

    #[test]
    fn a_common_name_that_could_be_that_of_another_client_is_not_used() {
        for name in [&b"ci\xff"[..], b"", b"sha256:00"] {
            let found = read_name(&new_certificate(&new_attribute(&[0x55, 0x04, 0x03], name)));
            assert_eq!(found.len(), "sha256:".len() + 64, "{found}");
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_parsed_is_named_by_its_digest() {
        let whole = new_certificate(&new_attribute(&[0x55, 0x04, 0x03], b"ci"));
        for length in 0..whole.len() {
            assert_eq!(read_name(&whole[..length]).len(), "sha256:".len() + 64);
        }
        assert!(read_name(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).starts_with("sha256:"));
    }
}
