#!/bin/sh
# Runs inside the virtual machine, as a service of systemd. One line for each check:
# `VM-PASS name` or `VM-FAIL name: reason`; `VM-END` when all are done. Then the machine is switched off.
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export KUBECONFIG=/var/lib/orlop/admin.kubeconfig
K=/opt/payload/kubectl

pass() { echo "VM-PASS $1"; }
fail() {
    echo "VM-FAIL $1: $2"
    journalctl -u orlop.service --no-pager -n 60 -o cat
}
finish() {
    echo VM-END
    sync
    systemctl poweroff --force --force
}
# check NAME PATIENCE_S COMMAND: repeats the command until it holds.
check() {
    name=$1 left=$2
    shift 2
    while ! out=$("$@" 2>&1); do
        left=$((left - 2))
        if [ "$left" -le 0 ]; then
            fail "$name" "$out"
            return 1
        fi
        sleep 2
    done
    pass "$name"
}

for module in overlay bridge veth br_netfilter; do modprobe "$module" 2>/dev/null; done
nic=$(ls /sys/class/net | grep -v -x lo | head -n 1)
ip address add 10.0.2.15/24 dev "$nic"
ip link set "$nic" up
ip link set lo up
mkdir -p /var/lib/orlop/images /etc/kubernetes/manifests
cp /opt/payload/images/busybox.tar /var/lib/orlop/images/
cp /opt/payload/orlop /usr/local/bin/orlop
cp /opt/payload/orlop.service /etc/systemd/system/orlop.service
mkdir -p /etc/systemd/system/orlop.service.d
printf '[Service]\nExecStart=\nExecStart=/usr/local/bin/orlop up --node-ip=10.0.2.15\n' >/etc/systemd/system/orlop.service.d/up.conf
systemctl daemon-reload

echo "kernel $(uname -r), $(stat -fc %T /sys/fs/cgroup), $(systemctl --version | head -n 1)"
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then pass "cgroup v2 alone"; else fail "cgroup v2 alone" "$(mount)"; fi

# Type=notify: systemctl returns when orlop says that it is ready.
if systemctl start orlop.service; then pass "orlop.service becomes active by sd_notify"; else
    fail "orlop.service becomes active by sd_notify" "$(systemctl status orlop.service)"
    finish
fi

node_ready() { $K get node vm-node -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -qx True; }
check "the node is Ready" 120 node_ready || finish
check "the demo is applied" 60 $K apply -f /opt/payload/demo.yaml
pods_ready() { [ "$($K get deployment web -n demo -o jsonpath='{.status.readyReplicas}')" = 3 ]; }
check "three Pods are Ready" 300 pods_ready || $K get pods,events -A
ip_of() { $K get service web -n demo -o jsonpath='{.spec.clusterIP}'; }
answers() { curl -s -m 5 "http://$(ip_of)/motd" | grep -q 'lowest deck'; }
check "the Service answers on its ClusterIP" 60 answers
node_port() { curl -s -m 5 http://10.0.2.15:30080/motd | grep -q 'lowest deck'; }
check "the Service answers on its NodePort" 60 node_port

if [ -d /sys/fs/cgroup/kubepods.slice ]; then pass "Pods live in systemd's slices"; else
    fail "Pods live in systemd's slices" "$(ls /sys/fs/cgroup)"
fi
slice() { ls -d /sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod*.slice >/dev/null; }
check "a slice for each Pod, by its QoS class" 10 slice

before=$($K get pods -n demo -o jsonpath='{.items[*].status.containerStatuses[0].containerID}')
systemctl restart orlop.service
same() {
    [ "$($K get pods -n demo -o jsonpath='{.items[*].status.containerStatuses[0].containerID}')" = "$before" ] &&
        [ "$($K get pods -n demo -o jsonpath='{.items[*].status.containerStatuses[0].restartCount}')" = "0 0 0" ]
}
check "a restart of the service restarts no container" 60 same
check "the Service answers after the restart" 60 answers

systemctl stop orlop.service
if purge=$(orlop down --purge 2>&1); then pass "down --purge leaves nothing"; else fail "down --purge leaves nothing" "$purge"; fi
finish
