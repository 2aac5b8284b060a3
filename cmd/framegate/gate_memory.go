package main

import (
	"math"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// What kills a process for want of memory is the kernel: on behalf of a memory
// cgroup at its limit, or of the whole machine. Neither counts what Go's runtime
// does, so each is asked. A cgroup counts the buffers of sockets, which belong to
// no process, and the page cache (Documentation/admin-guide/cgroup-v2.rst, "Memory
// Interface Files"). In version 1 it counts the buffers apart, and kills for them
// no one.
//
// The kernel takes the page cache back before it kills, and waits for what has to
// be written first. That holds for the active part, too: the log is in it as soon as
// it has been read twice, by a backup for one, and stays there for as long as nothing
// else wants the memory. What is mapped could be taken back as well, but is the
// program itself, which would have to be read anew all the time.

// A memoryUse is one view of how much memory is used, and how much may be.
type memoryUse struct{ used, limit uint64 }

// load is 1 at the limit.
func (m memoryUse) load() float64 { return float64(m.used) / float64(max(m.limit, 1)) }

// percent is n percent of the limit.
func (m memoryUse) percent(n int) memoryUse {
	return memoryUse{m.used, m.limit / 100 * uint64(n)}
}

// reserve counts as used what the live connections may come to need for messages,
// all at the same time, beyond what whole leaves above the limit. Once they are in
// nobody could refuse it to them.
func (m memoryUse) reserve(whole uint64, live int64) memoryUse {
	need, above := uint64(max(live, 0))*messageCost, whole-min(m.limit, whole)
	return memoryUse{m.used + need - min(above, need), m.limit}
}

// A memoryProbe looks at the memory of one process.
type memoryProbe struct {
	proc string // its directory in /proc
	root string // where its mounts are seen
}

var ownMemory = memoryProbe{"/proc/self", "/"}

// A memoryGroup is a cgroup with a memory controller.
type memoryGroup struct {
	dir string
	v1  bool
}

// groups are those that the process is in, from its own up to the highest that is
// mounted: the limit of each holds for all that is below.
func (p memoryProbe) groups() []memoryGroup {
	own, _ := os.ReadFile(filepath.Join(p.proc, "cgroup"))
	mounts, _ := os.ReadFile(filepath.Join(p.proc, "mountinfo"))
	// "4:memory:/a/b" or "0::/a/b", cgroups(7).
	var path [2]string
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(f) != 3:
		case f[0] == "0":
			path[0] = f[2]
		case strings.Contains(","+f[1]+",", ",memory,"):
			path[1] = f[2]
		}
	}
	var list []memoryGroup
	for line := range strings.Lines(string(mounts)) {
		// "31 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup rw", proc_pid_mountinfo(5).
		mount, fs, ok := strings.Cut(line, " - ")
		m, f := strings.Fields(mount), strings.Fields(fs)
		if !ok || len(m) < 5 || len(f) < 3 {
			continue
		}
		own := path[0]
		switch v1 := f[0] == "cgroup"; {
		case v1 && strings.Contains(","+f[2]+",", ",memory,"):
			own = path[1]
		case v1 || f[0] != "cgroup2":
			continue
		}
		// Of a part of the tree only the part is seen, as its root. A process that
		// is not below it sees none of its own groups there, but that of a
		// container's runtime, which is the one that it is in.
		root, top := unescaped(m[3]), filepath.Join(p.root, unescaped(m[4]))
		rel, err := filepath.Rel(root, own)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") || !strings.HasPrefix(own, "/") || strings.HasPrefix(own, "/..") {
			rel = "."
		}
		for dir := filepath.Join(top, rel); ; dir = filepath.Dir(dir) {
			list = append(list, memoryGroup{dir, f[0] == "cgroup"})
			if dir == top || len(dir) <= len(top) {
				break
			}
		}
	}
	return list
}

// unescaped undoes what mountinfo does to white space.
func unescaped(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// cacheStat is what the page cache consists of in memory.stat, and the part of it
// that is mapped; cacheStatV1 the same of a group and all that are below it.
var (
	cacheStat   = [...]string{"inactive_file", "active_file", "file_mapped"}
	cacheStatV1 = [...]string{"total_inactive_file", "total_active_file", "total_mapped_file"}
)

// read returns what the group uses and may use; false means that it has no limit.
func (g memoryGroup) read() (m memoryUse, ok bool) {
	limits, usage, stat := []string{"memory.max", "memory.high"}, "memory.current", cacheStat
	if g.v1 {
		limits, usage, stat = []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes", cacheStatV1
	}
	m.limit = math.MaxUint64
	for _, name := range limits { // above memory.high a process is not killed, but hardly runs
		if n, ok := g.number(name); ok {
			m.limit = min(m.limit, n)
		}
	}
	if m.limit > math.MaxInt64/2 { // none, or what version 1 has for it
		return memoryUse{}, false
	}
	m.used, _ = g.number(usage)
	m.used -= min(g.cache(stat), m.used)
	return m, true
}

// cache is how much of the page cache could be had for something else.
func (g memoryGroup) cache(names [len(cacheStat)]string) uint64 {
	var n [len(cacheStat)]uint64
	stat, _ := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	for line := range strings.Lines(string(stat)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if i := slices.Index(names[:], name); i >= 0 {
			n[i], _ = strconv.ParseUint(value, 10, 64)
		}
	}
	return n[0] + n[1] - min(n[2], n[0]+n[1])
}

// number reads a file with one number in it; false means that there is none, as
// in "max".
func (g memoryGroup) number(name string) (uint64, bool) {
	b, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// machine returns how much memory there is, and how much could be had.
func (p memoryProbe) machine() (total, available uint64) {
	b, _ := os.ReadFile(filepath.Join(p.proc, "..", "meminfo"))
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseUint(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	if total > 0 {
		return total, available
	}
	var s syscall.Sysinfo_t // where /proc has processes only
	if syscall.Sysinfo(&s) == nil {
		return uint64(s.Totalram) * uint64(s.Unit), (uint64(s.Freeram) + uint64(s.Bufferram)) * uint64(s.Unit)
	}
	return math.MaxInt64, math.MaxInt64
}

// limit is how much memory the process may use: the least limit of its groups, or
// the memory of the machine.
func (p memoryProbe) limit(groups []memoryGroup) uint64 {
	limit, _ := p.machine()
	for _, g := range groups {
		if m, ok := g.read(); ok {
			limit = min(limit, m.limit)
		}
	}
	return limit
}

// look returns the view of memory that is worst, with own bytes used by Go, of
// which percent may be used, and what live connections need set aside. Of the
// machine the gateway may have what it has, and what could be had.
func (p memoryProbe) look(own uint64, groups []memoryGroup, percent int, live int64) (worst memoryUse) {
	consider := func(m memoryUse) {
		if m = m.percent(percent).reserve(m.limit, live); m.load() > worst.load() {
			worst = m
		}
	}
	_, available := p.machine()
	consider(memoryUse{own, own + available})
	for _, g := range groups {
		if m, ok := g.read(); ok {
			m.used = max(m.used, own)
			consider(m)
		}
	}
	return worst
}

// goMemory is what Go's runtime has of the system and has not given back.
func goMemory() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64() - sample[1].Value.Uint64()
}
