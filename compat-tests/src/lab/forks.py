# Runs a console script of the reference again and again without Python's and its modules' time to start: a process
# that has imported everything forks one for each request. Arguments: the script, the socket to listen on.
import json
import os
import signal
import socket
import sys

import patroni.ctl  # noqa: F401
import patroni.dcs.etcd3  # noqa: F401


def serve(program, path):
    """Gives the request in a process of its own; the first one never comes back."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            break
        connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(connection.makefile().readline())
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        connection.sendall(b'%d\n' % max(code, -1))
        os._exit(0)
    connection.close()
    for number, file in ((1, request['stdout']), (2, request['stderr'])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.environ.update(request['environment'])
    sys.argv = [program] + request['arguments']
    sys.path[0] = os.path.dirname(program)
    # Of a traceback the frames of this file are not the script's.
    usual = sys.excepthook
    sys.excepthook = lambda kind, error, trace: usual(kind, error.with_traceback(trace.tb_next), trace.tb_next)


PROGRAM, SOCKET = sys.argv[1:]
with open(PROGRAM) as file:
    CODE = compile(file.read(), PROGRAM, 'exec')
serve(PROGRAM, SOCKET)
exec(CODE, {'__name__': '__main__', '__builtins__': __builtins__, '__file__': PROGRAM})
