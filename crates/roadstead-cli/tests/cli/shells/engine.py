"""Stands in for systemctl, docker and kubectl, by whose names it is called, where there is no systemd, no image and no cluster.

It does what those do with what decides whether a registry answers: the command, its environment, what is mounted where, who it
runs as. The file is read by the reader that they have themselves, where it can be had: systemd-analyze, Compose's own. Whoever
calls it has given it mounts, processes and a network of its own. It is done when the service is well, by the file's own probe.
"""

import json, os, re, shlex, socket, subprocess, sys, time

TRACE = "/run/trace/calls"
NOBODY = (65534, 65534)
PATH = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start(command, environment, mounts=(), scratch=(), user=NOBODY, capabilities=(), writable=(), passed=None):
    """Starts a command as nobody, or as another user, in a file system that has the mounts, read-only but for some. It is
    passed a socket as systemd does it: as descriptor 3, said to be for the process that is there from the shell to the server.
    """
    lines = ["set -e"]
    for source, target in [*mounts, *writable]:
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "a").close()
        lines.append(shlex.join(["mount", "--bind", source, target]))
        if (source, target) not in writable:
            lines.append(f"mount -o remount,bind,ro {shlex.quote(target)}")
    for target, _, _ in scratch:
        os.makedirs(target)
    lines += [f"mount -t tmpfs -o {options or 'mode=755'} tmpfs {target}" for target, _, options in scratch]
    bounding = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    drop = [f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups", "--no-new-privs", f"--bounding-set={bounding}", "--"]
    listens = " LISTEN_FDS=1 LISTEN_PID=$$ " if passed else " "
    lines.append(shlex.join(["exec", "setpriv", *drop, "env", "-i", PATH, *environment]) + listens + shlex.join(command))
    if passed:
        os.dup2(passed.fileno(), 3)
    inherited = [3] if passed else []
    return subprocess.Popen(["unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(lines)], pass_fds=inherited)


def wait(service, probe):
    """Asks until the answer is yes, for a minute, as long as the service runs."""
    end = time.monotonic() + 60
    while subprocess.run(["env", "-i", PATH, *probe], stdout=sys.stderr).returncode != 0:
        if service.poll() is not None:
            sys.exit(f"it ended with {service.returncode}")
        if time.monotonic() > end:
            sys.exit("it is not well: " + shlex.join(probe))
        time.sleep(0.05)


# Where there are users, /v2/ is refused to who has no name: any answer will do.
ANSWERS = ["curl", "-s", "-o", "/dev/null", "http://127.0.0.1:5000/v2/"]


def unescaped(word, marks):
    """A word as systemd takes it, whose quotation marks are a shell's: each of the marks is doubled, or means something else."""
    for mark in marks:
        assert mark not in word.replace(2 * mark, ""), word
        word = word.replace(2 * mark, mark)
    return word


def judged(settings):
    """Fails if what was started asked for something that the unit takes away."""
    allowed, wanted = set(), ["@system-service"]
    assert ["SystemCallFilter", *wanted] in settings, settings
    while wanted:
        said = subprocess.run(["systemd-analyze", "syscall-filter", wanted.pop()], capture_output=True, text=True, check=True)
        names = [line.strip() for line in said.stdout.splitlines()[1:]]
        wanted += [name for name in names if name.startswith("@")]
        allowed.update(names)
    with open(TRACE) as file:
        trace = file.read()
    asked = set(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE))
    assert asked <= allowed, asked - allowed
    passed = ["Requires", "roadstead.socket"] in settings
    assert ("bind" in asked, "listen" in asked) == (not passed, not passed), asked
    (families,) = [value.split() for key, value in settings if key == "RestrictAddressFamilies"]
    spoken = set(re.findall(r" socket\((\w+)", trace))
    assert spoken <= set(families), spoken
    if ["MemoryDenyWriteExecute", "yes"] in settings:
        assert "PROT_WRITE|PROT_EXEC" not in trace, "memory that is written and executed"


def systemctl(arguments):
    unit, beside = [f"/etc/systemd/system/roadstead.{kind}" for kind in ("service", "socket")]
    if arguments == ["daemon-reload"]:
        units = [unit, *([beside] if os.path.exists(beside) else [])]
        said = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=True)
        assert said.stdout + said.stderr == "", said
        return
    with open(unit) as file:
        settings = [line.rstrip("\n").split("=", 1) for line in file if "=" in line and line[0] != "#"]
    if arguments == ["judge"]:
        return judged(settings)
    assert arguments == ["enable", "--now", "roadstead"], arguments
    of = lambda name: [value for key, value in settings if key == name]
    for folder in of("RuntimeDirectory"):
        os.mkdir(f"/run/{folder}", 0o755)
        os.chown(f"/run/{folder}", 65534, 65534)
    places = lambda name: [unescaped(place, "%") for line in of(name) for place in shlex.split(line)]
    (tree,) = places("BindReadOnlyPaths")
    users = [(folder, folder) for folder in places("BindPaths")]
    assert places("ReadWritePaths") == places("BindPaths") and bool(users) != bool(of("DynamicUser")), settings
    user = (of("User") + of("Group")) or NOBODY
    (line,) = of("ExecStart")
    command = [unescaped(argument, "%$") for argument in shlex.split(line)]
    os.mkdir(os.path.dirname(TRACE))
    os.chmod(os.path.dirname(TRACE), 0o777)
    passed = None
    if of("Requires") == ["roadstead.socket"]:
        with open(beside) as file:
            ((host, port),) = [line.strip().split("=")[1].rsplit(":", 1) for line in file if line.startswith("ListenStream=")]
        passed = socket.create_server((host, int(port)))
    # With -D the server is the process that was started, and not a child of it.
    traced = ["strace", "-D", "-f", "-o", TRACE, *command]
    environment = ["HOME=/", *of("Environment")]
    service = start(traced, environment, mounts=[(tree, tree)], user=user, writable=users, passed=passed)
    wait(service, ANSWERS if users else ["curl", "-fs", "http://127.0.0.1:5000/v2/"])


def docker(arguments):
    if arguments == ["build", "-t", "roadstead", "."]:
        with open("Dockerfile") as file:
            base, copy = file.read().splitlines()
        assert base.startswith("FROM ") and copy == "COPY roadstead /usr/local/bin/", copy
        subprocess.run(["install", "-m", "755", "roadstead", "/usr/local/bin/"], check=True)
        return
    assert arguments == ["compose", "up", "-d"], arguments
    read = subprocess.run(["compose-spec", "--format", "json", "compose.yaml"], stdout=subprocess.PIPE, check=True)
    service = json.loads(read.stdout)["services"]["registry"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"], service
    assert service["security_opt"] == ["no-new-privileges:true"], service
    assert all(volume["type"] == "bind" for volume in service["volumes"]), service
    bound = lambda read: [(v["source"], v["target"]) for v in service["volumes"] if v.get("read_only", False) == read]
    assert {target for _, target in bound(False)} <= {"/var/lib/roadstead"}, service
    (port,) = service["ports"]
    assert (port["host_ip"], int(port["published"]), port["target"]) == ("127.0.0.1", 5000, 5000), port
    running = start(
        service["entrypoint"],
        [f"{name}={value}" for name, value in service.get("environment", {}).items()],
        mounts=bound(True),
        scratch=[where.partition(":") for where in service.get("tmpfs", [])],
        user=service["user"].split(":"),
        capabilities=service.get("cap_add", []),
        writable=bound(False),
    )
    kind, *probe = service["healthcheck"]["test"] if "healthcheck" in service else ["CMD", *ANSWERS]
    wait(running, ["sh", "-c", *probe] if kind == "CMD-SHELL" else probe)


def kubectl(arguments):
    import yaml

    assert arguments[:2] == ["apply", "-f"], arguments
    with open(arguments[2]) as file:
        objects = {found["kind"]: found for found in yaml.safe_load_all(file)}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    if container["image"] == "registry.example/roadstead:1":
        subprocess.run(["install", "-m", "755", "target/release/roadstead", "/usr/local/bin/"], check=True)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts, scratch, writable = [], [], []
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "emptyDir" in volume:
            scratch.append((mount["mountPath"], "", "mode=777"))
            continue
        if mount["name"] == "users":
            writable.append((volume["hostPath"]["path"], mount["mountPath"]))
            continue
        assert mount["readOnly"], mount
        if "hostPath" in volume:
            mounts.append((volume["hostPath"]["path"], mount["mountPath"]))
        else:
            folder = f"/run/{mount['name']}"
            os.mkdir(folder)
            for name, text in objects["ConfigMap"]["data"].items():
                with open(f"{folder}/{name}", "w") as file:
                    file.write(text)
            mounts.append((folder, mount["mountPath"]))
    service = start(
        container["command"],
        [f"{variable['name']}={variable['value']}" for variable in container.get("env", [])],
        mounts,
        scratch,
        (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]),
        container["securityContext"]["capabilities"].get("add", []),
        writable,
    )
    (port,) = container["ports"]
    ((kind, probe),) = container["readinessProbe"].items()
    assert probe["port"] == port["name"] and port["containerPort"] == 5000, probe
    assert kind == ("tcpSocket" if writable else "httpGet"), probe
    wait(service, ANSWERS if writable else ["curl", "-fs", f"http://127.0.0.1:5000{probe['path']}"])


{"systemctl": systemctl, "docker": docker, "kubectl": kubectl}[os.path.basename(sys.argv[0])](sys.argv[1:])
