{{template "sh" .}}{{template "roots" .}}{{template "check" .}}
keytool=${JAVA_HOME:+$JAVA_HOME/bin/}keytool
password=${STOREPASS:-changeit}
command -v "$keytool" >/dev/null || die "no $keytool here: set JAVA_HOME to the directory of the Java runtime"

for name in $roots; do
	if "$keytool" -list -cacerts -storepass "$password" -alias "$name" >/dev/null 2>&1; then
		echo "$name is installed already"
	else
		"$keytool" -importcert -noprompt -cacerts -storepass "$password" -alias "$name" -file "$name.crt"
	fi
done
