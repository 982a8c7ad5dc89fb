//! The name in a certificate, for the log. The certificate has been verified: this reads just enough of its structure (DER,
//! RFC 5280) to find the common name of its subject.

use ring::digest::{SHA256, digest};
use std::fmt::Write;

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// `UTF8String`, `PrintableString`, `TeletexString` and `IA5String`: texts of which each byte is a character or a part of one.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];

/// 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The common name of its subject; if it has none, its SHA-256 digest.
pub(crate) fn name(certificate: &[u8]) -> String {
    common_name(certificate).unwrap_or_else(|| {
        digest(&SHA256, certificate).as_ref().iter().fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    })
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let mut body = Reader(Reader(Reader(certificate).content(SEQUENCE)?).content(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.content(VERSION)?;
    }
    body.content(INTEGER)?;
    // The algorithm of the signature, the issuer, and the validity.
    for _ in 0..3 {
        body.content(SEQUENCE)?;
    }
    let mut subject = Reader(body.content(SEQUENCE)?);
    let mut found = None;
    while !subject.0.is_empty() {
        let mut attributes = Reader(subject.content(SET)?);
        while !attributes.0.is_empty() {
            let mut attribute = Reader(attributes.content(SEQUENCE)?);
            let is_common_name = attribute.content(OBJECT_ID)? == COMMON_NAME;
            let (tag, text) = attribute.element()?;
            // If there are several, the last one is the most specific one.
            if is_common_name && TEXTS.contains(&tag) && !text.is_empty() {
                found = Some(String::from_utf8_lossy(text).into_owned());
            }
        }
    }
    found
}

/// The bytes that are left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, which has this tag.
    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The tag and the content of the next element.
    fn element(&mut self) -> Option<(u8, &'a [u8])> {
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
    use super::name;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn certificate(subject: &[u8]) -> Vec<u8> {
        let nothing = element(0x30, &[]);
        let parts = [&element(0xa0, &[]), &element(0x02, &[1]), &nothing, &nothing, &nothing, &element(0x30, subject)];
        element(0x30, &element(0x30, &parts.map(Vec::as_slice).concat()))
    }

    fn attribute(id: &[u8], text: &str) -> Vec<u8> {
        element(0x31, &element(0x30, &[element(0x06, id), element(0x0c, text.as_bytes())].concat()))
    }

    #[test]
    fn the_name_is_the_last_common_name_of_the_subject() {
        let organisation = attribute(&[0x55, 0x04, 0x0a], "Example");
        let names =
            [attribute(&[0x55, 0x04, 0x03], "team"), attribute(&[0x55, 0x04, 0x03], "ci"), organisation.clone()];
        assert_eq!(name(&certificate(&names.concat())), "ci");
        assert!(name(&certificate(&organisation)).starts_with("sha256:"));
    }

    #[test]
    fn a_certificate_that_cannot_be_read_is_named_by_its_digest() {
        let whole = certificate(&attribute(&[0x55, 0x04, 0x03], "ci"));
        for length in 0..whole.len() {
            assert_eq!(name(&whole[..length]).len(), "sha256:".len() + 64);
        }
        assert!(name(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).starts_with("sha256:"));
    }
}
