package onboarding

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"framegate/ca/bundle"
)

// The archives hold the bundles as ca export writes them, the same each time.
func TestArchives(t *testing.T) {
	roots := []*x509.Certificate{certificate(t, "root.pem"), certificate(t, "next.pem")}
	for _, platform := range bundle.Platforms() {
		want, err := bundle.For(platform, roots)
		if err != nil {
			t.Fatal(err)
		}
		get := func(ext string) []byte {
			a := ask(t, pageOf(roots...), "GET", home+"framegate-"+platform+ext).Body.Bytes()
			b := ask(t, pageOf(roots[1], roots[0]), "GET", home+"framegate-"+platform+ext).Body.Bytes()
			if !bytes.Equal(a, b) {
				t.Errorf("%s%s differs each time", platform, ext)
			}
			return a
		}
		zipped := get(".zip")
		z, err := zip.NewReader(bytes.NewReader(zipped), int64(len(zipped)))
		if err != nil {
			t.Fatal(err)
		}
		var inZip, inTar []bundle.File
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			inZip = append(inZip, bundle.File{Name: f.Name, Mode: f.Mode(), Data: data})
		}
		for r := tar.NewReader(bytes.NewReader(get(".tar"))); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			data, err2 := io.ReadAll(r)
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			inTar = append(inTar, bundle.File{Name: h.Name, Mode: h.FileInfo().Mode(), Data: data})
		}
		same := func(a, b bundle.File) bool {
			return a.Name == "framegate-"+platform+"/"+b.Name && a.Mode == b.Mode && bytes.Equal(a.Data, b.Data)
		}
		if !slices.EqualFunc(inZip, want, same) || !slices.EqualFunc(inTar, want, same) {
			t.Errorf("%s: not what the bundle has", platform)
		}
	}
}

// There is no key in anything that can be had. The page is given none, so this
// is about what might come to look like one.
func TestNoKeys(t *testing.T) {
	s, err := fill([]*x509.Certificate{certificate(t, "root.pem")})
	if err != nil {
		t.Fatal(err)
	}
	for path, f := range s.files {
		if bytes.Contains(f.data, []byte("PRIVATE KEY")) || bytes.Contains(f.data, []byte("AGE ENCRYPTED")) || strings.HasSuffix(path, ".key") {
			t.Errorf("%s", path)
		}
	}
}
