#Requires -RunAsAdministrator
# Takes away what install.ps1 added. May be run again.
$ErrorActionPreference = 'Stop'

$roots = @({{range $i, $r := .Roots}}{{if $i}},{{end}}
    '{{$r.SHA256}}'{{end}}
)

$sha256 = [System.Security.Cryptography.SHA256]::Create()
$store = New-Object System.Security.Cryptography.X509Certificates.X509Store -ArgumentList 'Root', 'LocalMachine'
$store.Open('ReadWrite')
try {
    foreach ($certificate in @($store.Certificates)) {
        $found = [System.BitConverter]::ToString($sha256.ComputeHash($certificate.RawData)).Replace('-', '')
        if ($roots -contains $found) { # case does not matter to -contains
            $store.Remove($certificate)
            Write-Output "removed: $($certificate.Subject)"
        }
    }
} finally {
    $store.Close()
}
