#![allow(clippy::unwrap_used)]
use super::*;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Made by CPython 3.11: `pickle.dumps(value, 2).hex()`.
#[test]
fn as_cpython_writes_it() {
    let deep = Value::dict([("a", Value::List(vec![Value::Int(1), Value::Tuple(vec![])]))]);
    for (value, hex) in [
        (Value::None, "80024e2e"),
        (Value::Bool(true), "8002882e"),
        (Value::Int(255), "80024bff2e"),
        (Value::Int(256), "80024d00012e"),
        (Value::Int(65536), "80024a000001002e"),
        (Value::Int(-1), "80024affffffff2e"),
        (Value::Int(1 << 31), "80028a0500000080002e"),
        (Value::Int(-(1 << 31) - 1), "80028a05ffffff7fff2e"),
        (Value::Int(-(1 << 39)), "80028a0500000000802e"),
        (Value::Float(1.5), "8002473ff80000000000002e"),
        (Value::str("\u{e9}"), "80025802000000c3a971002e"),
        (Value::bytes(&[]), "8002635f5f6275696c74696e5f5f0a62797465730a7100295271012e"),
        (
            Value::bytes(&[1, 0xff]),
            "8002635f636f646563730a656e636f64650a7100580300000001c3bf710158060000006c6174696e3171028671035271042e",
        ),
        (Value::Tuple(vec![Value::Int(1); 4]), "8002284b014b014b014b017471002e"),
        (Value::List(vec![Value::Int(1)]), "80025d71004b01612e"),
        (Value::List(vec![]), "80025d71002e"),
        (deep, "80027d710058010000006171015d7102284b012965732e"),
    ] {
        let want = unhex(hex);
        let wrote = dump(&value);
        assert_eq!(wrote, want, "{value:?}: {wrote:02x?}");
        assert_eq!(load(&wrote), Ok(value));
    }
}

#[test]
fn long_collections_and_nodes() {
    for count in [999, 1000, 1001, 2500] {
        let list = Value::List((0..count).map(Value::Int).collect());
        assert_eq!(load(&dump(&list)), Ok(list));
        let texts = (0..count).map(|n| (Value::str(&format!("k{n}")), Value::Set(vec![Value::Int(n)])));
        let dict = Value::Dict(texts.collect());
        assert_eq!(load(&dump(&dict)), Ok(dict));
    }
    let add = Value::List(vec![Value::str("add"), Value::str("[::1]:5"), Value::Node("[::1]:5".into())]);
    assert_eq!(load(&dump(&add)), Ok(add));
}

#[test]
fn nothing_is_run() {
    let calls: [&[u8]; 8] = [
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.",
        b"\x80\x02cposix\nsystem\n.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"(S'id'\nios\nsystem\n.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        b"\x80\x02c_codecs\nencode\n)\x81.",
        b"\x80\x02cpysyncobj.node\nTCPNode\n)R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    ];
    for call in calls {
        let read = load(call);
        assert!(read.is_err(), "{read:?}");
    }
    assert_eq!(load(calls[0]), Err(PickleError::Name("os.system".into())));
}

#[test]
fn what_is_malformed_or_too_much() {
    // A tuple of two that is doubled forty times.
    let mut doubled = b"\x80\x02K\x01K\x01\x86q\x00".to_vec();
    for n in 0..40u8 {
        doubled.extend([b'h', n, b'h', n, 0x86, b'q', n + 1]);
    }
    let deep = [b"\x80\x02".to_vec(), vec![b']'; 5000], vec![b'a'; 4999], vec![b'.']].concat();
    let cases: [&[u8]; 12] = [
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02X\xff\xff\xff\xffa.",
        b"\x80\x02X\x01\x00\x00\x00\xff.",
        b"\x80\x02}q\x00h\x00\x86.",
        b"\x80\x02h\x07.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02NN.",
        b"\x80\x02(((.",
        &doubled,
        &deep,
    ];
    for case in cases {
        assert!(load(case).is_err(), "{case:?}");
    }
}

#[test]
fn garbage_is_an_error_and_no_panic() {
    let real = dump(&Value::List(vec![Value::str("add"), Value::bytes(b"\x00x"), Value::Node("h:1".into())]));
    let mut seed = 7u32;
    for round in 0..20_000 {
        let mut bytes = real.clone();
        for _ in 0..=round % 4 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % bytes.len();
            bytes[at] = (seed >> 24) as u8;
        }
        let _ = load(&bytes);
        let _ = load(&bytes[..(seed >> 9) as usize % bytes.len()]);
    }
}
