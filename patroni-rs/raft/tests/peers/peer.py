# A member of the reference's own making: each line of its input is a call, each line of its output the answer.
import json
import logging
import os
import sys
import time

AHEAD = [float(os.environ.get('AHEAD', 0))]
TIME = time.time
time.time = lambda: TIME() + AHEAD[0]

from patroni.dcs.raft import KVStoreTTL
from pysyncobj.utility import TcpUtility

if len(sys.argv) > 2:
    try:
        print(json.dumps(TcpUtility(sys.argv[3] if len(sys.argv) > 3 else None, 5).executeCommand(
            sys.argv[1], json.loads(sys.argv[2])), default=str))
    except Exception as e:
        print(json.dumps('error: ' + str(e)))
    sys.exit(0)

logging.basicConfig(level=logging.WARNING)
kv = KVStoreTTL(None, None, None, commandsWaitLeader=False, **json.loads(sys.argv[1]))
kv.startAutoTick()
print('"started"', flush=True)
for line in sys.stdin:
    name, args, kwargs = json.loads(line)
    if name == 'status':
        leader = kv._getLeader()
        result = {'leader': leader and leader.id, 'leads': kv._isLeader(), 'applied': kv.raftLastApplied,
                  'ready': kv.isReady(), 'others': sorted(n.id for n in kv.otherNodes)}
    elif name == 'ahead':
        AHEAD[0] = args[0]
        result = True
    elif name == 'dump':
        kv.forceLogCompaction()
        result = True
    else:
        result = getattr(kv, name)(*args, **kwargs)
    print(json.dumps(result), flush=True)
kv.destroy()
