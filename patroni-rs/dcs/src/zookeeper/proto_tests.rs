use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

fn world() -> Arc<[Acl]> {
    Arc::new([Acl { permissions: 31, scheme: "world".into(), id: "anyone".into() }])
}

fn create(path: &str, value: &str, ephemeral: bool) -> Op {
    Op::Create { path: path.into(), value: value.into(), acl: world(), ephemeral }
}

fn path() -> String {
    "/a".into()
}

/// As kazoo 2.11 writes them.
#[test]
fn requests() {
    let replace = vec![
        Op::Check { path: path(), version: ANY },
        Op::Delete { path: path(), version: 0 },
        create("/a", "m0", true),
    ];
    for (xid, op, wanted) in [
        (
            16,
            create("/service/demo/members/m0", "{}", true),
            "000000490000001000000001000000182f736572766963652f64656d6f2f6d656d626572732f6d30000000027b7d00\
             0000010000001f00000005776f726c6400000006616e796f6e6500000001",
        ),
        (18, Op::Delete { path: path(), version: 3 }, "000000120000001200000002000000022f6100000003"),
        (19, Op::Exists { path: path(), watch: true }, "0000000f0000001300000003000000022f6101"),
        (20, Op::Get { path: path() }, "0000000f0000001400000004000000022f6100"),
        (
            21,
            Op::Set { path: path(), value: b"x".into(), version: ANY },
            "000000170000001500000005000000022f610000000178ffffffff",
        ),
        (22, Op::Children { path: path(), watch: false }, "0000000f000000160000000c000000022f6100"),
        (23, Op::Sync { path: path() }, "0000000e0000001700000009000000022f61"),
        (
            24,
            Op::Multi(replace),
            "0000006b000000180000000e0000000d00ffffffff000000022f61ffffffff0000000200ffffffff000000022f61\
             000000000000000100ffffffff000000022f61000000026d30000000010000001f00000005776f726c6400000006\
             616e796f6e6500000001ffffffff01ffffffff",
        ),
        (25, Op::Close, "0000000800000019fffffff5"),
    ] {
        assert_eq!(hex(&op.frame(xid)), wanted.replace(' ', ""), "{op:?}");
    }
    let x509 = Arc::new([Acl { permissions: 3, scheme: "x509".into(), id: "CN=a".into() }]);
    let op = Op::Create { path: path(), value: Vec::new(), acl: x509, ephemeral: false };
    let wanted = "0000002e0000001100000001000000022f61000000000000000100000003000000047835303900000004434e3d6100000000";
    assert_eq!(hex(&op.frame(17)), wanted);
    assert_eq!(hex(&ping()), "00000008fffffffe0000000b");
    assert_eq!(
        hex(&auth("digest", "u:p")),
        "0000001dfffffffc00000064000000000000000664696765737400000003753a70"
    );
    assert_eq!(hex(&sasl(1, b"")), "0000000c000000010000006600000000");
}

#[test]
fn greetings() {
    let session =
        Session { id: 0x1000012fe790001, password: (0..16).collect(), timeout: Duration::from_secs(30) };
    let wanted =
        "0000002d00000000000000000000000000004e2000000000000000000000001000000000000000000000000000000000";
    assert_eq!(hex(&connect(None, Duration::from_secs(20), 0)), format!("{wanted}00"));
    let wanted =
        "0000002d00000000000000000000002600004e2001000012fe79000100000010000102030405060708090a0b0c0d0e0f00";
    assert_eq!(hex(&connect(Some(&session), Duration::from_secs(20), 38)), wanted);
    assert!(!format!("{session:?}").contains("10, 11"));

    // As a ZooKeeper 3.8.0 with a tick of 2 s answers: 60 s were asked for; and a session that it does not know.
    let read = |text: &str| Greeting::read(&mut In::new(&bytes(text)));
    let welcome = "0000000000009c40010000dc0ba6000000000010f85eda902571824796364eb0764a4252";
    for end in ["", "00"] {
        let Ok(Greeting::Welcome(session)) = read(&format!("{welcome}{end}")) else { panic!("{end}") };
        assert_eq!(
            (session.id, session.timeout.as_secs(), session.password.len()),
            (0x10000dc0ba60000, 40, 16)
        );
    }
    assert_eq!(read(&format!("{welcome}01")), Ok(Greeting::ReadOnly));
    let expired = "00000000000000000000000000000000000000100000000000000000000000000000000000";
    assert_eq!(read(expired), Ok(Greeting::Expired));
    for length in 0..welcome.len() / 2 {
        assert_eq!(read(&welcome[..length * 2]), Err(Garbled), "{length}");
    }
}

/// What a ZooKeeper 3.8.0 has answered.
const STAT: &str = "0000000000000003000000000000000300\
                    0001a22ba8d3e4000001a22ba8d3e4000000000000000000000000010000dc0ba60000000000020000000000000000\
                    00000003";

fn stat(mzxid: i64, version: i32) -> Stat {
    Stat { czxid: 3, mzxid, version, cversion: 0, owner: 0x10000dc0ba60000, children: 0, pzxid: 3 }
}

fn answer(op: &Op, body: &str) -> Result<Answer, Garbled> {
    op.answer(&mut In::new(&bytes(&body.replace(' ', ""))))
}

#[test]
fn replies() {
    let head = |text: &str| Head::read(&mut In::new(&bytes(text)));
    assert_eq!(
        head("000000010000000000000002ffffff9b"),
        Ok(Head { xid: 1, zxid: 2, error: Some(Code::NO_NODE) })
    );
    assert_eq!(head("000000030000000000000004ffffff92").map(|head| head.error), Ok(Some(Code::NODE_EXISTS)));
    assert_eq!(head("fffffffe000000000000000900000000"), Ok(Head { xid: xid::PING, zxid: 9, error: None }));
    assert_eq!(head("fffffffe0000000000000009"), Err(Garbled));

    let get = Op::Get { path: path() };
    assert_eq!(answer(&get, &format!("000000026d30{STAT}")), Ok(Answer::Value(b"m0".into(), stat(3, 0))));
    assert_eq!(answer(&Op::Exists { path: path(), watch: true }, STAT), Ok(Answer::Stat(stat(3, 0))));
    assert_eq!(answer(&create("/a", "m0", true), "000000022f61"), Ok(Answer::Done));
    assert_eq!(answer(&Op::AddWatch { path: path() }, "00000000"), Ok(Answer::Done));
    let root = Stat { cversion: 0, children: 2, pzxid: 3, ..Stat::default() };
    assert_eq!(
        answer(
            &Op::Children { path: "/".into(), watch: false },
            "000000020000000161000000097a6f6f6b65657065720000000000000000000000000000000000000000000000000000000000\
             000000000000000000000000000000000000000000000000000000000000020000000000000003",
        ),
        Ok(Answer::Children(vec!["a".into(), "zookeeper".into()], root))
    );
    let event = Event::read(&mut In::new(&bytes("0000000300000003000000022f61")));
    assert_eq!(event, Ok(Event { path: path() }));
}

#[test]
fn replies_to_transactions() {
    let check = Op::Check { path: path(), version: ANY };
    let one = Op::Multi(vec![check.clone()]);
    let done = "0000000d0000000000ffffffff01ffffffff";
    assert_eq!(answer(&one, done), Ok(Answer::Multi(vec![Ok(Answer::Done)])));

    let delete = |version| Op::Delete { path: path(), version };
    let refused = Op::Multi(vec![check, delete(5), create("/a", "m0", true)]);
    let told =
        "ffffffff000000000000000000ffffffff00ffffff99ffffff99ffffffff00fffffffefffffffeffffffff01ffffffff";
    let errors = [Code(0), Code::BAD_VERSION, Code(-2)].map(Err);
    assert_eq!(answer(&refused, told), Ok(Answer::Multi(errors.into())));

    let set = Op::Set { path: path(), value: b"z".into(), version: 1 };
    let replace = Op::Multi(vec![set, delete(2), create("/a", "m0", true)]);
    let told = "000000050000000000000000000000000300\
                00000000000009000001a22ba8d3e4000001a22ba8d422000000020000000000000000010000dc0ba60000000000010000\
                000000000000000000\
                03000000020000000000000000010000000000000000022f61ffffffff01ffffffff";
    let answers = vec![Ok(Answer::Stat(stat(9, 2))), Ok(Answer::Done), Ok(Answer::Done)];
    assert_eq!(answer(&replace, told), Ok(Answer::Multi(answers)));

    // Of another transaction, and cut short.
    assert_eq!(answer(&one, told), Err(Garbled));
    assert_eq!(answer(&replace, done), Err(Garbled));
    let told = bytes(&told.replace(' ', ""));
    for length in 0..told.len() {
        assert_eq!(replace.answer(&mut In::new(&told[..length])), Err(Garbled), "{length}");
    }
}

#[test]
fn garbage_is_refused() {
    let mut seed = 1_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let ops = [
        Op::Get { path: path() },
        Op::Children { path: path(), watch: false },
        Op::Multi(vec![create("/a", "", true), Op::Exists { path: path(), watch: false }]),
        Op::Sync { path: path() },
    ];
    for _ in 0..20_000 {
        let length = random() % 60;
        // Small numbers are more like a message.
        let garbage: Vec<u8> = (0..length)
            .map(|_| random().to_le_bytes()[0] & if random() % 3 == 0 { 0xff } else { 0x03 })
            .collect();
        for op in &ops {
            let _ = op.answer(&mut In::new(&garbage));
        }
        let _ = (Head::read(&mut In::new(&garbage)), Greeting::read(&mut In::new(&garbage)));
        let _ = Event::read(&mut In::new(&garbage));
    }
}
