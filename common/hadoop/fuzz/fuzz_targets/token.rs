//! Tokens as text, and what is inside them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::token::identifier::{self, HdfsDelegationIdentifier};
use spindle_hadoop::token::{Secret, Token, TokenKind};

fuzz_target!(|bytes: &[u8]| {
    let _ = HdfsDelegationIdentifier::decode(bytes);
    for kind in [TokenKind::AmRm, TokenKind::Nm] {
        let (password, service) = (Secret::default(), String::new());
        let token = Token {
            identifier: bytes.to_vec(),
            password,
            kind,
            service,
        };
        let _ = (identifier::attempt(&token), identifier::node(&token));
    }
    if let Ok(token) = std::str::from_utf8(bytes)
        .map_err(drop)
        .and_then(|text| Token::from_url_text(text).map_err(drop))
    {
        assert_eq!(Token::from_url_text(&token.to_url_text()), Ok(token));
    }
});
