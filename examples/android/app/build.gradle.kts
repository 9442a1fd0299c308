plugins {
    id("com.android.application") version "8.13.0"
    kotlin("android") version "2.4.20"
    id("com.google.protobuf") version "0.9.5"
}

android {
    namespace = "io.edgecascade.example"
    compileSdk = 36
    defaultConfig {
        applicationId = "io.edgecascade.example"
        minSdk = 26
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
    }
    // The calls are the tutorial's own file.
    sourceSets["main"].kotlin.srcDir("../../clients/kotlin")
    sourceSets["main"].withGroovyBuilder {
        "proto" { "srcDir"("../../../protos/cascade/v1") }
    }
}

dependencies {
    implementation("io.grpc:grpc-okhttp:1.85.0")
    implementation("io.grpc:grpc-protobuf-lite:1.85.0")
    implementation("io.grpc:grpc-stub:1.85.0")
    implementation("com.google.protobuf:protobuf-javalite:4.36.2")
}

protobuf {
    protoc { artifact = "com.google.protobuf:protoc:4.36.2" }
    plugins { create("grpc") { artifact = "io.grpc:protoc-gen-grpc-java:1.85.0" } }
    generateProtoTasks {
        all().forEach {
            it.builtins { create("java") { option("lite") } }
            it.plugins { create("grpc") { option("lite") } }
        }
    }
}
