# A reader of a Raft cluster, of the reference's own making: a request a line, an answer a line.
import json
import sys

from patroni.dcs.raft import KVStoreTTL

kv = KVStoreTTL(None, None, None, commandsWaitLeader=False, patronictl=True, retry_timeout=5, **json.loads(sys.argv[1]))
kv.startAutoTick()
for line in sys.stdin:
    try:
        name, args = json.loads(line)
        if name == 'prefix':
            # Up to date: an entry of our own is behind all that was confirmed before.
            if kv.set('/lab', 'x') is False:
                raise Exception('no majority')
            answer = sorted([k, v['value'], 'expire' in v] for k, v in kv.get(args[0], recursive=True).items())
        elif name == 'put':
            answer = kv.set(*args) is not False
        else:
            answer = kv.delete(args[0], prevExist=True)
    except Exception as e:
        answer = {'error': str(e)}
    print(json.dumps(answer), flush=True)
