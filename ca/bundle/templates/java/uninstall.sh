{{template "sh" .}}{{template "roots" .}}
keytool=${JAVA_HOME:+$JAVA_HOME/bin/}keytool
password=${STOREPASS:-changeit}
command -v "$keytool" >/dev/null || die "no $keytool here: set JAVA_HOME to the directory of the Java runtime"

for name in $roots; do
	if "$keytool" -list -cacerts -storepass "$password" -alias "$name" >/dev/null 2>&1; then
		"$keytool" -delete -cacerts -storepass "$password" -alias "$name"
	fi
	echo "$name is not installed any more"
done
