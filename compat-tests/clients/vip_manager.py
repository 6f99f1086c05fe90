#!/usr/bin/python3
"""Runs vip-manager for one member in a network namespace of its own, on a veth interface, and tells where the address is.

Usage: vip_manager.py VIP_MANAGER DCS_TYPE PORT KEY VALUE STATUS_FILE

The namespace's 127.0.0.1:PORT leads to the host's through a Unix socket, so that neither the host's interfaces nor its
routes are touched. STATUS_FILE holds `up` or `down`, replaced ten times a second. Needs no privileges: the namespace
belongs to a user namespace.
"""
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time

CLONE_NEWUSER, CLONE_NEWNET, PR_SET_PDEATHSIG, SIGKILL = 0x10000000, 0x40000000, 1, 9
ADDRESS, INTERFACE = '10.213.7.9', 'member0'

program, kind, port, key, value, status = sys.argv[1:]
port = int(port)
inner = os.path.abspath(status) + '.sock'
libc = ctypes.CDLL(None, use_errno=True)


def carry(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def forward(listener, connect):
    while True:
        near, _ = listener.accept()
        try:
            far = connect()
        except OSError:
            near.close()
            continue
        for pair in ((near, far), (far, near)):
            threading.Thread(target=carry, args=pair, daemon=True).start()


def connect_inner():
    far = socket.socket(socket.AF_UNIX)
    far.connect(inner)
    return far


def namespace():
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        sys.exit('unshare: ' + os.strerror(ctypes.get_errno()))
    for name, text in (('setgroups', 'deny'), ('uid_map', '0 %d 1' % uid), ('gid_map', '0 %d 1' % gid)):
        with open('/proc/self/' + name, 'w') as file:
            file.write(text)
    for words in ('link set lo up', 'link add %s type veth peer name switch0' % INTERFACE,
                  'link set switch0 up', 'link set %s up' % INTERFACE, 'address add 10.213.7.1/24 dev ' + INTERFACE):
        subprocess.run(['ip'] + words.split(), check=True)


def has_address():
    shown = subprocess.run(['ip', '-br', 'address', 'show', INTERFACE], stdout=subprocess.PIPE, text=True)
    return ADDRESS + '/' in shown.stdout


listener = socket.socket(socket.AF_UNIX)
listener.bind(inner)
listener.listen(64)
if os.fork() != 0:
    forward(listener, lambda: socket.create_connection(('127.0.0.1', port)))
libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
listener.close()
namespace()
gate = socket.create_server(('127.0.0.1', port))
threading.Thread(target=forward, args=(gate, connect_inner), daemon=True).start()
manager = subprocess.Popen(
    [program, '--ip', ADDRESS, '--netmask', '24', '--interface', INTERFACE, '--dcs-type', kind,
     '--dcs-endpoints', 'http://127.0.0.1:%d' % port, '--trigger-key', key, '--trigger-value', value],
    preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, SIGKILL))
while manager.poll() is None:
    with open(status + '.new', 'w') as file:
        file.write('up' if has_address() else 'down')
    os.replace(status + '.new', status)
    time.sleep(0.1)
sys.exit('vip-manager has ended')
