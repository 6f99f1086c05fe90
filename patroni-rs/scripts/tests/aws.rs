//! `patroni_aws` against a server that plays the metadata service and EC2. The reference
//! cannot be recorded without boto3; the calls are those of its source.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::{run, serve, Request};

const DOCUMENT: &str = r#"{"instanceId": "i-1", "region": "eu-central-1"}"#;
const VOLUMES: &str = "<r><volumeSet><item><volumeId>vol-1</volumeId><attachmentSet><item>\
    <volumeId>vol-1</volumeId></item></attachmentSet></item></volumeSet>";

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|a| (*a).to_owned()).collect()
}

/// Exit code, log without times, and what was asked.
fn callback(
    answer: impl Fn(&Request, usize) -> (u16, String) + Send + 'static,
) -> (i32, String, Vec<Request>) {
    let home = tempfile::tempdir().unwrap();
    let (url, asked) = serve(answer);
    let env = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_ENDPOINT_URL_EC2", url.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let done = run("patroni_aws", &words(&["on_role_change", "primary", "demo"]), home.path(), &env);
    let log = String::from_utf8(done.stderr).unwrap();
    let log: Vec<&str> = log.lines().map(|l| l.get(24..).unwrap_or(l)).collect();
    let asked = asked.lock().unwrap().clone();
    (done.status.code().unwrap(), log.join("\n"), asked)
}

#[test]
fn usage() {
    let home = tempfile::tempdir().unwrap();
    for args in [&["on_start", "primary"][..], &["on_reload", "primary", "demo"], &[]] {
        let done = run("patroni_aws", &words(args), home.path(), &[]);
        assert_eq!(done.status.code(), Some(1));
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(text.starts_with("Usage: ") && text.ends_with("/patroni_aws action role name\n"), "{text}");
    }
}

#[test]
fn tags_the_instance_and_its_volumes() {
    let (code, log, asked) = callback(|asked, _| match asked.path.as_str() {
        "/latest/api/token" => (200, "TOKEN".into()),
        "/latest/dynamic/instance-identity/document" => (200, DOCUMENT.into()),
        _ if asked.body.contains("NextToken") => (200, "<r><volumeId>vol-2</volumeId></r>".into()),
        _ if asked.body.contains("DescribeVolumes") => {
            (200, format!("{VOLUMES}<nextToken>n/1</nextToken></r>"))
        }
        _ => (200, "<r/>".into()),
    });
    assert_eq!((code, log.as_str()), (0, ""));
    assert_eq!(asked[0].header("x-aws-ec2-metadata-token-ttl-seconds"), "21600");
    assert_eq!(asked[0].method, "PUT");
    assert_eq!(asked[1].header("x-aws-ec2-metadata-token"), "TOKEN");
    let bodies: Vec<&str> = asked[2..].iter().map(|a| a.body.as_str()).collect();
    let describe =
        "Action=DescribeVolumes&Version=2016-11-15&Filter.1.Name=attachment.instance-id&Filter.1.Value.1=i-1";
    assert_eq!(
        bodies,
        [
            "Action=CreateTags&Version=2016-11-15&ResourceId.1=i-1&Tag.1.Key=Role&Tag.1.Value=primary",
            describe,
            &format!("{describe}&NextToken=n%2F1"),
            "Action=CreateTags&Version=2016-11-15&ResourceId.1=vol-1&ResourceId.2=vol-2\
             &Tag.1.Key=Name&Tag.1.Value=spilo_demo&Tag.2.Key=Role&Tag.2.Value=primary\
             &Tag.3.Key=Instance&Tag.3.Value=i-1",
        ]
    );
    let signature = asked[2].header("authorization");
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{signature}");
    assert!(
        signature.contains("/eu-central-1/ec2/aws4_request, SignedHeaders=content-type;host;x-amz-date, ")
    );
}

#[test]
fn refused_calls_are_tried_again() {
    let (code, log, asked) = callback(|asked, number| match asked.path.as_str() {
        "/latest/dynamic/instance-identity/document" => (200, DOCUMENT.into()),
        "/latest/api/token" => (404, String::new()),
        _ if number < 4 => (503, "<Error><Code>RequestLimitExceeded</Code></Error>".into()),
        _ => (200, VOLUMES.into()),
    });
    assert_eq!((code, log.as_str()), (0, ""));
    assert_eq!(asked[1].header("x-aws-ec2-metadata-token"), "");
    assert_eq!(asked.len(), 7);
}

#[test]
fn no_metadata() {
    let (code, log, asked) = callback(|_, _| (500, String::new()));
    assert_eq!((code, log.as_str(), asked.len()), (0, "ERROR: cannot query AWS meta-data", 2));
    let (code, log, _) = callback(|_, _| (200, "{}".into()));
    assert_eq!(code, 0);
    assert!(log.starts_with("ERROR: unable to fetch instance id and region from AWS meta-data"), "{log}");
}
