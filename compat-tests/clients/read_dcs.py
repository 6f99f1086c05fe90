#!/opt/patroni-rs/reference/bin/python
"""Prints what the reference's own client code makes of a cluster's keys in etcd, as one JSON object.

Usage: read_dcs.py SCOPE ETCD_PORT, with the reference's python. Anything written into the keys that patroni.dcs
cannot parse is seen here as a missing value, for it turns what it cannot read into None or an empty value.
"""
import json
import sys

from patroni import global_config
from patroni.dcs import get_dcs

scope, port = sys.argv[1:]
dcs = get_dcs({'scope': scope, 'name': 'reader', 'ttl': 20, 'retry_timeout': 5, 'loop_wait': 2,
               'etcd3': {'hosts': ['127.0.0.1:' + port]}})
cluster = dcs.get_cluster()
leader, sync, failover = cluster.leader, cluster.sync, cluster.failover


def member(m):
    return {
        'version': m.version is not None, 'session': m.session is not None, 'state': m.state, 'api_url': m.api_url,
        'conn_url': m.conn_url, 'conn_kwargs': m.conn_kwargs(), 'nofailover': m.nofailover, 'noloadbalance': m.noloadbalance,
        'nosync': m.nosync, 'clonefrom': m.clonefrom, 'replicatefrom': m.replicatefrom, 'tags': m.tags,
        'failover_priority': m.failover_priority, 'is_running': m.is_running, 'lsn': isinstance(m.lsn, int),
        'patroni_version': m.patroni_version, 'timeline': m.data.get('timeline'), 'role': m.data.get('role'),
        'receive_lsn': isinstance(m.receive_lsn, int), 'replay_lsn': isinstance(m.replay_lsn, int),
    }


print(json.dumps({
    'initialize': bool(cluster.initialize and cluster.initialize.isdigit()),
    'config': cluster.config and cluster.config.data,
    'leader': leader and {'name': leader.name, 'session': leader.session is not None, 'conn_url': leader.conn_url,
                          'member': leader.member is not None and leader.name in [m.name for m in cluster.members]},
    'members': {m.name: member(m) for m in cluster.members},
    'status': {'last_lsn': isinstance(cluster.status.last_lsn, int) and cluster.status.last_lsn > 0,
               'slots': sorted(cluster.status.slots or {}), 'retain_slots': cluster.status.retain_slots,
               'lsns': all(isinstance(v, int) for v in (cluster.status.slots or {}).values())},
    'failover': failover and {'leader': failover.leader, 'candidate': failover.candidate,
                              'scheduled_at': failover.scheduled_at and failover.scheduled_at.isoformat()},
    'sync': sync and {'leader': sync.leader, 'sync_standby': sync.sync_standby, 'quorum': sync.quorum,
                      'voters': sync.voters, 'is_empty': sync.is_empty},
    'history': cluster.history and [[line[0], isinstance(line[1], int), line[2],
                                     len(line) > 3 and 'T' in line[3], line[4] if len(line) > 4 else None]
                                    for line in cluster.history.lines],
    'failsafe': cluster.failsafe,
    'is_paused': global_config.from_cluster(cluster).is_paused,
    'last_lsn': cluster.status.last_lsn > 0,
    'timeline': cluster.timeline,
}, indent=1))
