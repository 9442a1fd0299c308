// A picture from a prompt, every component on the server (cut 0): no bundle, no embeddings.
//
//     java -cp CLASSPATH PictureKt HOST:PORT "a red apple, noto style" apple.png [SEED]
//
// CASCADE_CA names the PEM file of the authority to trust and switches TLS on; CASCADE_TOKEN is sent
// as the bearer token.
import io.edgecascade.v1.CascadeServiceGrpc
import io.edgecascade.v1.CascadeServiceGrpc.CascadeServiceBlockingStub
import io.edgecascade.v1.GenerateRequest
import io.edgecascade.v1.GenerateResponse
import io.edgecascade.v1.GetServerInfoRequest
import io.edgecascade.v1.ImageFormat
import io.edgecascade.v1.OutputOptions
import io.edgecascade.v1.PromptStart
import io.edgecascade.v1.StageResult
import io.grpc.Grpc
import io.grpc.InsecureChannelCredentials
import io.grpc.ManagedChannel
import io.grpc.Metadata
import io.grpc.Status
import io.grpc.StatusRuntimeException
import io.grpc.TlsChannelCredentials
import io.grpc.stub.MetadataUtils
import java.io.File
import java.util.UUID
import java.util.concurrent.TimeUnit.SECONDS
import kotlin.system.exitProcess

const val MAX_RESUMES = 8
const val DEADLINE_S = 120L
const val MAX_MESSAGE_BYTES = 8 * 1024 * 1024 // of a server; the default of gRPC is 4 MiB

val FORMATS = mapOf(
    "png" to ImageFormat.IMAGE_FORMAT_PNG,
    "webp" to ImageFormat.IMAGE_FORMAT_WEBP,
    "jpg" to ImageFormat.IMAGE_FORMAT_JPEG
)

/** A channel to one server: over TLS where CASCADE_CA names an authority. */
fun connect(address: String): ManagedChannel {
    val ca = System.getenv("CASCADE_CA")
    val credentials = when (ca) {
        null -> InsecureChannelCredentials.create()
        else -> TlsChannelCredentials.newBuilder().trustManager(File(ca)).build()
    }
    return Grpc.newChannelBuilder(address, credentials)
        .maxInboundMessageSize(MAX_MESSAGE_BYTES)
        .keepAliveTime(10, SECONDS)
        .keepAliveTimeout(5, SECONDS)
        .build()
}

/** Calls on a channel, with the token of CASCADE_TOKEN where there is one. */
fun stubOf(channel: ManagedChannel): CascadeServiceBlockingStub {
    val stub = CascadeServiceGrpc.newBlockingStub(channel)
        .withWaitForReady()
        .withDeadlineAfter(DEADLINE_S, SECONDS) // of all calls together
    val token = System.getenv("CASCADE_TOKEN") ?: return stub
    val headers = Metadata()
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer $token")
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
}

/** The request for one picture, in the bundle that the server hosts. */
fun requestFor(stub: CascadeServiceBlockingStub, prompt: String, seed: Long, format: ImageFormat): GenerateRequest {
    val info = stub.getServerInfo(GetServerInfoRequest.getDefaultInstance())
    check(info.wireVersion == 1) { "wire version ${info.wireVersion}, expected 1" }
    return GenerateRequest.newBuilder()
        .setRequestId(UUID.randomUUID().toString())
        .setBundleId(info.getBundleIds(0))
        .setPrompt(PromptStart.newBuilder().setPrompt(prompt))
        .setSeed(seed)
        .setOutput(OutputOptions.newBuilder().setFormat(format).setPreviews(2))
        .setLingerSeconds(10.0)
        .build()
}

/** The bytes of the last picture; after a broken connection the same request is sent again. */
fun generate(stub: CascadeServiceBlockingStub, request: GenerateRequest, onEvent: (GenerateResponse) -> Unit): ByteArray {
    val results = ArrayList<StageResult>()
    var resumes = 0
    while (true) {
        try {
            val again = request.toBuilder().setResultsHeld(results.size).build()
            for (event in stub.generate(again)) {
                if (event.hasStageResult()) results.add(event.stageResult)
                onEvent(event)
            }
            return results.last().image.data.toByteArray()
        } catch (error: StatusRuntimeException) {
            if (error.status.code != Status.Code.UNAVAILABLE || resumes++ == MAX_RESUMES) throw error
            println("resuming with ${results.size} results: ${error.status.description}")
        }
    }
}

var finished = ""

fun show(event: GenerateResponse) {
    val (progress, result) = Pair(event.progress, event.stageResult)
    if (event.hasAccepted()) println("accepted, joined: ${event.accepted.joined}")
    // The server repeats the last progress after 4 s in which it has nothing else to send.
    if (event.hasProgress() && progress.step == progress.of && progress.stage != finished) {
        finished = progress.stage
        println("${progress.stage}: ${progress.of} steps")
    }
    if (event.hasPreview()) println("${event.preview.stage}: preview of ${event.preview.image.data.size()} bytes")
    if (result.hasImage()) println("${result.stage}: ${result.image.width}x${result.image.height}")
}

fun main(args: Array<String>) {
    val (address, prompt, file) = args
    val seed = if (args.size > 3) args[3].toLong() else 0
    val channel = connect(address)
    try {
        val stub = stubOf(channel)
        val request = requestFor(stub, prompt, seed, FORMATS.getValue(File(file).extension))
        val data = generate(stub, request, ::show)
        File(file).writeBytes(data)
        println("$file: ${data.size} bytes")
    } catch (error: StatusRuntimeException) {
        System.err.println("error: ${error.status}")
        exitProcess(1)
    } finally {
        channel.shutdownNow()
    }
}
