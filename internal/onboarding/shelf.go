package onboarding

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"framegate/ca/bundle"
)

// A shelf has every file that can be had, for one set of roots. It is immutable.
type shelf struct {
	certs  []*x509.Certificate
	roots  []rootView
	guides []*guide
	files  map[string]file // by their path below the page
}

// A file is one that can be had.
type file struct {
	name string
	kind string // media type
	save bool   // not to be opened in place
	data []byte
}

// A rootView is a root certificate as the page shows it.
type rootView struct {
	Subject     string
	NotAfter    string
	Fingerprint string   // as framegate ca show prints it
	Groups      []string // the same, in pieces of eight bytes
}

// fill renders all bundles. The same roots give the same bytes.
func fill(roots []*x509.Certificate) (*shelf, error) {
	if len(roots) == 0 {
		return nil, errors.New("there is no root certificate")
	}
	s := &shelf{certs: slices.Clone(roots), files: make(map[string]file)}
	oldest := slices.Clone(roots)
	slices.SortFunc(oldest, func(a, b *x509.Certificate) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), bytes.Compare(a.Raw, b.Raw))
	})
	for _, c := range oldest {
		s.roots = append(s.roots, viewOf(c))
	}
	// What is in an archive is as old as the newest root, and not as the render.
	made := oldest[len(oldest)-1].NotBefore.UTC()
	for _, g := range guides {
		list, err := bundle.For(g.Platform, roots)
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			at := path.Join(g.Platform, f.Name)
			kind, save := kindOf(f.Name)
			s.files[at] = file{f.Name, kind, save, f.Data}
			if slices.ContainsFunc(g.ends, func(end string) bool { return strings.HasSuffix(f.Name, end) }) {
				g.Offers = append(g.Offers, offer{at, f.Name, size(f.Data), !g.tar})
			}
		}
		dir := "framegate-" + g.Platform
		zipped, err := zipOf(dir, list, made)
		if err != nil {
			return nil, err
		}
		tarred, err := tarOf(dir, list, made)
		if err != nil {
			return nil, err
		}
		s.files[dir+".zip"] = file{dir + ".zip", "application/zip", true, zipped}
		s.files[dir+".tar"] = file{dir + ".tar", "application/x-tar", true, tarred}
		if g.tar {
			g.Offers = slices.Insert(g.Offers, 0, offer{dir + ".tar", dir + ".tar", size(tarred), true})
		} else {
			g.Offers = append(g.Offers, offer{dir + ".zip", dir + ".zip", size(zipped), false})
		}
		s.guides = append(s.guides, &g)
	}
	return s, nil
}

// of reports whether the files are those of roots.
func (s *shelf) of(roots []*x509.Certificate) bool {
	return slices.EqualFunc(s.certs, roots, (*x509.Certificate).Equal)
}

// sort returns the guides of the platforms, and the others.
func (s *shelf) sort(platforms []string) (first, others []*guide) {
	for _, p := range platforms {
		for _, g := range s.guides {
			if g.Platform == p {
				first = append(first, g)
			}
		}
	}
	for _, g := range s.guides {
		if !slices.Contains(platforms, g.Platform) {
			others = append(others, g)
		}
	}
	return first, others
}

func viewOf(c *x509.Certificate) rootView {
	sum := sha256.Sum256(c.Raw)
	v := rootView{
		Subject: strings.Map(func(r rune) rune {
			if !unicode.IsGraphic(r) {
				return '?' // it may be somebody else's text, and move a cursor
			}
			return r
		}, c.Subject.String()),
		NotAfter:    c.NotAfter.UTC().Format(time.DateOnly),
		Fingerprint: strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":"),
	}
	for i := 0; i < len(v.Fingerprint); i += 24 {
		v.Groups = append(v.Groups, v.Fingerprint[i:min(i+24, len(v.Fingerprint))])
	}
	return v
}

// kindOf returns the media type of a file. Certificates and profiles are for the
// system to open, README.txt for the browser, and the rest is to be saved.
func kindOf(name string) (kind string, save bool) {
	switch ext := path.Ext(name); ext {
	case ".cer", ".crt", ".0", ".1": // the last are for Android's system store
		return "application/x-x509-ca-cert", false
	case ".mobileconfig":
		return "application/x-apple-aspen-config", false
	case ".pem":
		return "application/x-pem-file", true
	case ".json", ".onc":
		return "application/json", true
	case ".xml":
		return "application/xml", true
	default:
		return plainText, ext != ".txt"
	}
}

func size(b []byte) string { return fmt.Sprintf("%d KiB", (len(b)+1023)/1024) }

func zipOf(dir string, files []bundle.File, made time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: dir + "/" + f.Name, Method: zip.Deflate, Modified: made}
		h.SetMode(f.Mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

func tarOf(dir string, files []bundle.File, made time.Time) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + f.Name, Mode: int64(f.Mode.Perm()), Size: int64(len(f.Data)), ModTime: made, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.Data); err != nil {
			return nil, err
		}
	}
	err := t.Close()
	return b.Bytes(), err
}
