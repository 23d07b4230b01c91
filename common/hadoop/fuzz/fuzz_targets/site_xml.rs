//! A site file is understood or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_hadoop::conf::parse_site_xml;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_site_xml("fuzz-site.xml", bytes);
});
