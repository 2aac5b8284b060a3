package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A socket is a TCP port that somebody listens on.
type socket struct {
	addr  netip.AddrPort
	inode string
}

// checkPorts says of each address of the configuration whether the gateway has
// it, or can have it. It asks the kernel's lists: to listen for a moment could
// take the port from a gateway that starts, or a connection from its client.
func (d *doctor) checkPorts(context.Context) []diagnosis {
	type port struct{ key, addr string }
	var ports []port
	for _, addr := range d.config.Intercept.Listen {
		ports = append(ports, port{"intercept.listen", addr})
	}
	if addr := d.config.Intercept.Explicit; addr != "" {
		ports = append(ports, port{"intercept.explicit", addr})
	}
	if addr := d.config.Admin.Listen; addr != "" && !strings.HasPrefix(addr, "unix:") {
		ports = append(ports, port{"admin.listen", addr})
	}
	listening, err := listeners()
	if err != nil {
		return []diagnosis{warn(d.asRoot(), "not checked: %v", err)}
	}
	var list []diagnosis
	for _, p := range ports {
		var inodes []string
		for _, s := range listening {
			if sameListener(p.addr, s.addr) {
				inodes = append(inodes, s.inode)
			}
		}
		list = append(list, d.checkPort(p.key, p.addr, inodes))
	}
	return list
}

func (d *doctor) checkPort(key, addr string, inodes []string) diagnosis {
	_, number, _ := net.SplitHostPort(addr)
	restart := "systemctl restart framegate  # it runs with another " + key
	if len(inodes) == 0 {
		if d.gateway != nil {
			return fail(restart, "%s %s: the gateway does not listen there", key, addr)
		}
		return pass("%s %s: free", key, addr)
	}
	holders := socketHolders(inodes)
	for _, pid := range holders {
		if d.gateway != nil && pid == d.gateway.pid {
			return pass("%s %s: the gateway listens", key, addr)
		}
	}
	switch {
	case len(holders) == 0 && os.Geteuid() != 0:
		return warn(d.asRoot(), "%s %s: in use, and only root can see by whom", key, addr)
	case len(holders) == 0:
		return fail(fmt.Sprintf("ss -ltnp 'sport = :%s'  # then end what holds it, or change %s", number, key),
			"%s %s: in use, and by no process that can be seen", key, addr)
	case slices.Equal(holders, []int{1}) && programName(1) == "systemd":
		return pass("%s %s: systemd listens, for the gateway to take over", key, addr)
	}
	name := programName(holders[0])
	return fail(fmt.Sprintf("kill %d  # %s; or change %s", holders[0], name, key), "%s %s: in use by %s, process %d", key, addr, name, holders[0])
}

// listeners reads the TCP sockets that listen from the kernel.
func listeners() ([]socket, error) {
	var list []socket
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := readText(name)
		if err != nil {
			if name == "/proc/net/tcp6" {
				continue // a kernel without IPv6
			}
			return nil, err
		}
		for line := range strings.Lines(text) {
			// sl local_address rem_address st ... inode, proc_pid_net(5).
			f := strings.Fields(line)
			const listen = "0A" // TCP_LISTEN
			if len(f) < 10 || f[3] != listen {
				continue
			}
			if addr, ok := parseProcAddr(f[1]); ok {
				list = append(list, socket{addr, f[9]})
			}
		}
	}
	return list, nil
}

// parseProcAddr reads "0100007F:20FB": words of 32 bits in the order of the
// machine, each in hexadecimal, and the port.
func parseProcAddr(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}

// sameListener says whether who listens on have is in the way of addr.
func sameListener(addr string, have netip.AddrPort) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != strconv.Itoa(int(have.Port())) {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err != nil || a.IsUnspecified() || have.Addr().IsUnspecified() || a.Unmap() == have.Addr()
}

// socketHolders returns the processes that have one of the sockets open, as far
// as they can be seen.
func socketHolders(inodes []string) []int {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	var pids []int
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		inode, ok := strings.CutPrefix(target, "socket:[")
		if err != nil || !ok || !slices.Contains(inodes, strings.TrimSuffix(inode, "]")) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(fd, "/")[2]); err == nil && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// programName is how a process calls itself, for people only.
func programName(pid int) string {
	name, err := readText(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "a program"
	}
	return name
}

// checkAdmin asks the admin port of the gateway that runs.
func (d *doctor) checkAdmin(ctx context.Context) []diagnosis {
	addr := d.config.Admin.Listen
	switch {
	case addr == "":
		return []diagnosis{warn(`# set admin.listen = "127.0.0.1:9470"`, "there is no admin port: nobody can ask whether the gateway is well")}
	case d.gateway == nil:
		return []diagnosis{pass("%s: nobody to ask, no gateway runs", addr)}
	}
	var list []diagnosis
	for _, path := range []string{"/healthz", "/readyz"} {
		said, err := askAdmin(ctx, addr, path)
		if err != nil {
			list = append(list, fail("journalctl -u framegate -n 50  # says why; then systemctl restart framegate", "%s%s: %v", addr, path, err))
			continue
		}
		list = append(list, pass("%s%s: %s", addr, path, said))
	}
	return list
}

// askAdmin returns the answer, or an error that has it.
func askAdmin(ctx context.Context, addr, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	network := "tcp"
	host, port, err := net.SplitHostPort(addr)
	if file, isUnix := strings.CutPrefix(addr, "unix:"); isUnix {
		network, addr = "unix", file
	} else if a, parseErr := netip.ParseAddr(host); err == nil && (parseErr != nil || a.IsUnspecified()) {
		loopback := "127.0.0.1" // which a listener for both families has, too
		if a == netip.IPv6Unspecified() {
			loopback = "::1"
		}
		addr = net.JoinHostPort(loopback, port)
	}
	client := &http.Client{Transport: &http.Transport{ // never by a proxy of the environment
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	said := strings.TrimSpace(string(body))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, said)
	}
	return said, err
}
