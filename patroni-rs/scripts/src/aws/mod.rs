//! `patroni_aws`: a callback that tags the EC2 instance and its volumes with the role
//! (surface-config 13.2).

mod ec2;
mod metadata;
mod sign;

use crate::log::{uncaught, Log};
use ec2::{Ec2, Problem};
use metadata::Metadata;

/// Runs the program; gives its exit code.
pub fn main(args: impl Iterator<Item = String>) -> i32 {
    let words: Vec<String> = args.collect();
    let log = Log::to_stderr();
    match words.as_slice() {
        [_, action, role, cluster]
            if ["on_start", "on_stop", "on_role_change"].contains(&action.as_str()) =>
        {
            tag(role, cluster, &log)
        }
        _ => {
            let program = words.first().map_or("patroni_aws", String::as_str);
            uncaught(&format!("Usage: {program} action role name"))
        }
    }
}

fn tag(role: &str, cluster: &str, log: &Log) -> i32 {
    let metadata = match Metadata::new() {
        Ok(metadata) => metadata,
        Err(e) => return uncaught(&e),
    };
    let Some(document) = metadata.identity() else {
        log.error("cannot query AWS meta-data");
        return 0;
    };
    let instance = pyfmt::json::loads(&document).ok().and_then(|identity| {
        let text = |key: &str| Some(identity.get(key)?.py_str());
        Some((text("instanceId")?, text("region")?))
    });
    let Some((instance, region)) = instance else {
        log.exception("unable to fetch instance id and region from AWS meta-data", document);
        return 0;
    };
    let ec2 = match Ec2::connect(&metadata, &region) {
        Ok(ec2) => ec2,
        Err(e) => return uncaught(&e),
    };
    let name = format!("spilo_{cluster}");
    let tagged = ec2.retried(|| ec2.create_tags(&[instance.as_str()], &[("Role", role)])).and_then(|()| {
        ec2.retried(|| {
            let volumes = ec2.volumes_of(&instance)?;
            let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
            ec2.create_tags(&volumes, &[("Name", &name), ("Role", role), ("Instance", &instance)])
        })
    });
    match tagged {
        Ok(()) => 0,
        Err(Problem::Refused(_)) => {
            log.warning(format!(
                "Unable to communicate to AWS when setting tags for the EC2 instance {instance} \
                 and attached EBS volumes"
            ));
            0
        }
        Err(Problem::Other(exception)) => uncaught(&exception),
    }
}
