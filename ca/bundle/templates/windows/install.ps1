#Requires -RunAsAdministrator
# Makes the authority of this bundle one that the whole machine trusts. May be
# run again.
$ErrorActionPreference = 'Stop'

$roots = @({{range $i, $r := .Roots}}{{if $i}},{{end}}
    @{ File = '{{$r.Name}}.cer'; SHA256 = '{{$r.SHA256}}' }{{end}}
)

$sha256 = [System.Security.Cryptography.SHA256]::Create()
$certificates = foreach ($root in $roots) {
    $path = Join-Path $PSScriptRoot $root.File
    $certificate = New-Object System.Security.Cryptography.X509Certificates.X509Certificate2 -ArgumentList $path
    $found = [System.BitConverter]::ToString($sha256.ComputeHash($certificate.RawData)).Replace('-', '')
    if ($found -ne $root.SHA256) { # case does not matter to -ne
        throw "$($root.File) is not the certificate with fingerprint $($root.SHA256)"
    }
    $certificate
}

$store = New-Object System.Security.Cryptography.X509Certificates.X509Store -ArgumentList 'Root', 'LocalMachine'
$store.Open('ReadWrite')
try {
    foreach ($certificate in $certificates) {
        $store.Add($certificate) # does nothing if it is there
        Write-Output "installed: $($certificate.Subject)"
    }
} finally {
    $store.Close()
}
